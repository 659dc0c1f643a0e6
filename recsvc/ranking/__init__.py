"""Scores and the best videos: exact, approximate, filtered, diverse."""
