"""A model in memory: arrays, fold-in, and the one that is live."""
