"""Readers of numbers, identifiers and JSON from outside."""
