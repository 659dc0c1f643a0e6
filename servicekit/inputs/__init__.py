"""Numbers and JSON from outside."""
