"""Runs the revisions in one transaction; the advisory lock makes instances that start together wait for each other."""

from alembic import context
from sqlalchemy import text

LOCK = 4_701_001

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table="bridge_schema_version")
with context.begin_transaction():
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    context.run_migrations()
