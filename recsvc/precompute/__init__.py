"""Precomputed shortlists, made by a process of lowest priority."""
