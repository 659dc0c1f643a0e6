"""Quality on a held-out day."""
