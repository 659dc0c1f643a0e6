"""Adds owner and content of event identifiers, the programs that can use a newer schema, and the lease of training."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# All of it may be there already: the program before knows no schema newer than its own, so going back to it sets the
# revision back, and coming again repeats this.
# Programs that are older write identifiers without either: whose those are, their rows tell.
# Maintenance of feed_cache had the lock of the relay, which is held for as long as Kafka does not answer.
SCHEMA = """
ALTER TABLE interaction_ids ADD COLUMN IF NOT EXISTS owner bigint, ADD COLUMN IF NOT EXISTS content bigint;
COMMENT ON COLUMN interaction_ids.owner IS 'digest of the event id and the user';
COMMENT ON COLUMN interaction_ids.content IS 'digest of what the user did';

CREATE TABLE IF NOT EXISTS bridge_schema_compatibility (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    oldest_program text NOT NULL
);
COMMENT ON TABLE bridge_schema_compatibility IS
    'the oldest revision whose program works with this schema; a migration that takes something away raises it';
INSERT INTO bridge_schema_compatibility (oldest_program) VALUES ('0001') ON CONFLICT DO NOTHING;
GRANT SELECT ON bridge_schema_compatibility TO PUBLIC;

CREATE TABLE IF NOT EXISTS retrain_lease (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    fence bigint NOT NULL,
    holder text NOT NULL,
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE retrain_lease IS 'who trains now: one run, until its time is over, by the clock of this database';
INSERT INTO retrain_lease (fence, holder, expires_at) VALUES (0, '', '-infinity') ON CONFLICT DO NOTHING;
"""

_MAINTAIN = """
CREATE OR REPLACE FUNCTION feed_cache_maintain(days_kept integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
    day date;
    name text;
BEGIN
    PERFORM pg_advisory_xact_lock(4701006);
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
    """Add columns and tables."""
    op.execute(SCHEMA)
    op.execute(_MAINTAIN)


def downgrade() -> None:
    """Refuse: going back would forget whose events are whose."""
    raise NotImplementedError("owners of events are never dropped")
