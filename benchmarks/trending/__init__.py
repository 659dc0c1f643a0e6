"""Measures the cost of trending, and compares its ranking with the former one."""
