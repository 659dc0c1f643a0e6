"""Publish, activate, prune."""
