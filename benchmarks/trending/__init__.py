"""Measures what trending costs, and compares what it ranks."""
