"""Creates the list of erased users: by fingerprint and time, so that earlier exports can be read without them."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SCHEMA = """
CREATE TABLE erased_viewers (
    mark bytea PRIMARY KEY,
    erased_at timestamptz NOT NULL
);
"""


def upgrade() -> None:
    """Create the table."""
    op.execute(SCHEMA)


def downgrade() -> None:
    """Refuse: going back would bring erased viewers into models again."""
    raise NotImplementedError("erased viewers stay erased")
