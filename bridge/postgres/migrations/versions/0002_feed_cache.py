"""Served pages, one partition a day, kept for days."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Without a unique key: a page that is asked for twice was served twice. The default partition takes rows that
# waited for longer than there are partitions.
SCHEMA = """
CREATE TABLE feed_cache (
    created_at timestamptz NOT NULL,
    feed_session_id text NOT NULL,
    page integer NOT NULL,
    user_id text NOT NULL,
    surface text NOT NULL,
    served_by text NOT NULL,
    fallback_reason text NOT NULL,
    algorithm text NOT NULL,
    model_version text NOT NULL,
    experiment_variant_id text NOT NULL,
    video_ids text[] NOT NULL
) PARTITION BY RANGE (created_at);
CREATE INDEX feed_cache_session ON feed_cache (feed_session_id, page);
CREATE TABLE feed_cache_default PARTITION OF feed_cache DEFAULT;

CREATE FUNCTION feed_cache_maintain(days_kept integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
    day date;
    name text;
BEGIN
    PERFORM pg_advisory_xact_lock(4701003);
    FOR step IN 0..7 LOOP
        day := today + step;
        name := 'feed_cache_' || to_char(day, 'YYYYMMDD');
        IF to_regclass(name) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE TABLE %I PARTITION OF feed_cache FOR VALUES FROM (%L) TO (%L)',
                    name, day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
            EXCEPTION WHEN check_violation THEN
                NULL; -- rows of this day are in the default partition already, and stay there
            END;
        END IF;
    END LOOP;
    FOR name IN
        SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'feed_cache'::regclass AND relname ~ '^feed_cache_[0-9]{8}$'
            AND to_date(right(relname, 8), 'YYYYMMDD') < today - days_kept
    LOOP
        EXECUTE format('DROP TABLE %I', name);
    END LOOP;
    DELETE FROM feed_cache_default WHERE created_at < now() - make_interval(days => days_kept);
END $$;
"""


def upgrade() -> None:
    """Create the table."""
    op.execute(SCHEMA)


def downgrade() -> None:
    """Drop the table: its rows are copies."""
    op.execute("DROP FUNCTION feed_cache_maintain; DROP TABLE feed_cache")
