"""Metrics and logs, for which no caller waits."""
