"""Maintenance of stored interactions: backfill, erasure, retention."""
