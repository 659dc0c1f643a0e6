"""The HTML report, rendered from plain values."""
