"""Benchmarks behind every figure of the README: `python -m benchmarks [NAME …]`."""
