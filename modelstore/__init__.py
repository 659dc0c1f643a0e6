"""The published model: the files that retrain writes and recsvc reads."""
