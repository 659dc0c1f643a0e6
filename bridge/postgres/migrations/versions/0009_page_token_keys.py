"""The keys of page tokens, which bridges without such a setting share."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

SCHEMA = """
CREATE TABLE IF NOT EXISTS page_token_keys (
    key bytea PRIMARY KEY CHECK (octet_length(key) >= 32),
    created_at timestamptz NOT NULL DEFAULT now()
);
"""


def upgrade() -> None:
    """Create the table."""
    op.execute(SCHEMA)


def downgrade() -> None:
    """Drop the table."""
    op.execute("DROP TABLE page_token_keys")
