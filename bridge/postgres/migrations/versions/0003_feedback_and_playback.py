"""Feedback on recommendations, playback sessions, and tombstones in the outbox."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SCHEMA = """
CREATE TABLE recommendation_feedback (
    event_id uuid PRIMARY KEY,
    user_id text NOT NULL,
    video_id text NOT NULL,
    sentiment text NOT NULL,
    comment text,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    feed_session_id text,
    algorithm text,
    model_version text,
    experiment_variant_id text,
    recommendation_score double precision
);
CREATE INDEX recommendation_feedback_user ON recommendation_feedback (user_id);

CREATE TABLE playback_sessions (
    session_id uuid PRIMARY KEY,
    user_id text NOT NULL,
    video_id text NOT NULL,
    duration_ms bigint NOT NULL CHECK (duration_ms > 0),
    feed_session_id text,
    started_at timestamptz NOT NULL,
    position_ms bigint NOT NULL DEFAULT 0,
    positioned_at timestamptz NOT NULL,
    ended_at timestamptz,
    watch_time_ms bigint,
    completion_rate double precision CHECK (completion_rate BETWEEN 0 AND 1)
);
CREATE INDEX playback_sessions_user ON playback_sessions (user_id);

-- A tombstone has no payload.
ALTER TABLE interactions_outbox ALTER COLUMN payload DROP NOT NULL;
"""


def upgrade() -> None:
    """Create the tables."""
    op.execute(SCHEMA)


def downgrade() -> None:
    """Refuse: going back would drop acknowledged events."""
    raise NotImplementedError("acknowledged events are never dropped")
