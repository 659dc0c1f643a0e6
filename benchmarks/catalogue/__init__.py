"""Benchmarks of the catalogue: how fast videos come in, how fast hidden ones leave, what that costs a page."""
