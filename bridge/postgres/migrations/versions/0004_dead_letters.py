"""Messages that Kafka refused for good."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SCHEMA = """
CREATE TABLE interactions_outbox_dead (
    id uuid PRIMARY KEY,
    aggregatetype text NOT NULL,
    aggregateid text NOT NULL,
    type text NOT NULL,
    payload json,
    headers json NOT NULL,
    created_at timestamptz NOT NULL,
    refused_at timestamptz NOT NULL DEFAULT now(),
    reason text NOT NULL
);
CREATE INDEX interactions_outbox_dead_key ON interactions_outbox_dead (aggregateid);
"""


def upgrade() -> None:
    """Create the table."""
    op.execute(SCHEMA)


def downgrade() -> None:
    """Refuse: going back would drop acknowledged events."""
    raise NotImplementedError("acknowledged events are never dropped")
