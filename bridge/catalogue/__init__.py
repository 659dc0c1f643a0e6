"""The catalogue: videos in and out, hides and restorations."""
