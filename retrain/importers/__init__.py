"""Data and models that others made."""
