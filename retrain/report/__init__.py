"""The HTML report, from plain values."""
