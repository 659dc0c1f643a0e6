"""Popularity since training."""
