"""Shortlists found ahead by a process of lowest priority."""
