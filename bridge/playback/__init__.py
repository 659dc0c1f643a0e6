"""Playback sessions."""
