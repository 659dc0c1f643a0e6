"""Training runs: what each did, and how it ended."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SCHEMA = """
CREATE TABLE retrain_runs (
    run_id uuid PRIMARY KEY,
    run_date date,
    input_digest text NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'succeeded', 'rejected', 'failed')),
    started_at timestamptz NOT NULL,
    heartbeat_at timestamptz NOT NULL,
    ended_at timestamptz CHECK ((ended_at IS NULL) = (state = 'running')),
    interactions bigint,
    version text,
    reason text,
    message text,
    stage_seconds jsonb NOT NULL,
    quality jsonb NOT NULL,
    logged_at timestamptz
);
COMMENT ON COLUMN retrain_runs.run_date IS 'last day that was trained on';
COMMENT ON COLUMN retrain_runs.logged_at IS 'when the run was written to feed.lightfm_retrain_log';
CREATE UNIQUE INDEX retrain_runs_one_running ON retrain_runs ((true)) WHERE state = 'running';
CREATE INDEX retrain_runs_started_at ON retrain_runs (started_at);
"""


def upgrade() -> None:
    """Create the table."""
    op.execute(SCHEMA)


def downgrade() -> None:
    """Drop the table."""
    op.execute("DROP TABLE retrain_runs")
