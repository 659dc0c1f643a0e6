"""The database schema, as revisions of plain SQL."""
