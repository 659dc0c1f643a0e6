"""Importers of data and models from other systems."""
