"""Evaluation of quality on a held-out day."""
