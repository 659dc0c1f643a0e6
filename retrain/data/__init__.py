"""Exports in, coded interactions out, by DuckDB."""
