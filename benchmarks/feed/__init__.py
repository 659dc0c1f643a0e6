"""Benchmarks of pages through both services."""
