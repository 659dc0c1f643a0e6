"""Playback sessions: positions, and completion at the end."""
