"""Writes the reference pages from the programs themselves, so that they say what the programs do."""
