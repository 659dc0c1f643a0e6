"""The age of event identifiers, by which old ones are found."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# They are inserted in order of time, so that a block range index, which costs next to nothing, is enough.
SCHEMA = """
CREATE INDEX interaction_ids_recorded_at ON interaction_ids USING brin (recorded_at) WITH (autosummarize = on);
"""


def upgrade() -> None:
    """Create the index."""
    op.execute(SCHEMA)


def downgrade() -> None:
    """Drop the index."""
    op.execute("DROP INDEX interaction_ids_recorded_at")
