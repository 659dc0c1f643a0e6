"""Interactions, their identifiers, their outbox, and the catalogue of videos."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# A unique key of a partitioned table must hold the partition key, so event identifiers are unique in a table of
# their own. The default partition takes what is imported from before the first month.
SCHEMA = """
CREATE TABLE interaction_ids (
    event_id uuid PRIMARY KEY,
    recorded_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE user_interactions (
    event_id uuid NOT NULL DEFAULT gen_random_uuid(),
    user_id text NOT NULL,
    video_id text NOT NULL,
    interaction_type text NOT NULL,
    watch_time_ms bigint NOT NULL DEFAULT 0,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    rating double precision,
    search_query text,
    feed_session_id text,
    algorithm text,
    model_version text,
    experiment_variant_id text,
    recommendation_score double precision,
    metadata jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (event_id, occurred_at)
) PARTITION BY RANGE (occurred_at);
CREATE INDEX user_interactions_occurred_at ON user_interactions (occurred_at);
CREATE INDEX user_interactions_user ON user_interactions (user_id, occurred_at);
CREATE TABLE user_interactions_default PARTITION OF user_interactions DEFAULT;

CREATE FUNCTION user_interactions_ensure_months(first date, months integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    month date := date_trunc('month', first)::date;
    name text;
BEGIN
    PERFORM pg_advisory_xact_lock(4701002);
    FOR step IN 1..months LOOP
        name := 'user_interactions_' || to_char(month, 'YYYYMM');
        IF to_regclass(name) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE TABLE %I PARTITION OF user_interactions FOR VALUES FROM (%L) TO (%L)',
                    name, month::timestamp AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
            EXCEPTION WHEN check_violation THEN
                NULL; -- rows of this month are in the default partition already, and stay there
            END;
        END IF;
        month := (month + interval '1 month')::date;
    END LOOP;
END $$;

-- Columns as Debezium's outbox event router expects them: aggregatetype is the topic, aggregateid the message key.
-- transaction_id lets the relay stay below the oldest running transaction; identity order is not commit order.
CREATE TABLE interactions_outbox (
    sequence bigint GENERATED ALWAYS AS IDENTITY,
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    created_at timestamptz NOT NULL DEFAULT now(),
    id uuid PRIMARY KEY,
    aggregatetype text NOT NULL,
    aggregateid text NOT NULL,
    type text NOT NULL,
    payload json NOT NULL,
    headers json NOT NULL
);
CREATE INDEX interactions_outbox_order ON interactions_outbox (transaction_id, sequence);
CREATE INDEX interactions_outbox_key ON interactions_outbox (aggregateid);

CREATE TABLE videos (
    video_id text PRIMARY KEY,
    author_id text,
    tags text[] NOT NULL DEFAULT '{}',
    duration_ms bigint,
    published_at timestamptz
);
"""


def upgrade() -> None:
    """Create the tables."""
    op.execute(SCHEMA)


def downgrade() -> None:
    """Refuse: going back would drop acknowledged interactions."""
    raise NotImplementedError("acknowledged interactions are never dropped")
