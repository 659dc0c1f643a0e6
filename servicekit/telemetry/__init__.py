"""Metrics and logs, neither of which anybody waits for."""
