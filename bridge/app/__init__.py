"""Composition: builds the parts, runs background work and the commands of operators."""
