"""Benchmarks of training and of model quality."""
