"""Interactions and feedback in: RPCs, deduplication, and the commit that acknowledges them."""
