"""Postgres: connections, availability, migrations."""
