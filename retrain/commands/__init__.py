"""The commands of `python -m retrain`."""
