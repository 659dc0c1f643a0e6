"""Processes on one port."""
