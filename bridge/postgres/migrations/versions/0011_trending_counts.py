"""Counts of trending that grow as interactions are committed, and by which transaction each interaction was."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# Rows that are there have no transaction: without a default nothing is rewritten. A block range index costs next to
# nothing at ingestion, and identity order is not commit order. Programs before this one insert by column names.
_TRANSACTION = """
ALTER TABLE user_interactions ADD COLUMN IF NOT EXISTS transaction_id bigint;
ALTER TABLE user_interactions ALTER COLUMN transaction_id SET DEFAULT pg_current_xact_id()::text::bigint;
COMMENT ON COLUMN user_interactions.transaction_id IS
    'the transaction that committed it, by which trending counts it; NULL for what is older than this column';
CREATE INDEX IF NOT EXISTS user_interactions_transaction ON user_interactions
    USING brin (transaction_id) WITH (autosummarize = on, pages_per_range = 32);
"""

SCHEMA = """
CREATE TABLE IF NOT EXISTS trending_hours (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hour integer NOT NULL,
    video_id text NOT NULL,
    interaction_type text NOT NULL,
    surface text NOT NULL,
    country text NOT NULL,
    language text NOT NULL,
    deeds bigint NOT NULL,
    amount bigint NOT NULL,
    UNIQUE (hour, video_id, interaction_type, surface, country, language)
) WITH (fillfactor = 80);
COMMENT ON TABLE trending_hours IS 'what users did first to videos, by hours since 1970; amount is in millionths';

CREATE TABLE IF NOT EXISTS trending_marks (
    mark bigint NOT NULL,
    day integer NOT NULL,
    bucket bigint,
    amount bigint,
    PRIMARY KEY (mark, day)
) PARTITION BY RANGE (day);
CREATE TABLE IF NOT EXISTS trending_marks_default PARTITION OF trending_marks DEFAULT;
COMMENT ON TABLE trending_marks IS
    'which user did what to which video, as a digest, by days since 1970; with the row of trending_hours if it counts';

CREATE TABLE IF NOT EXISTS trending_scores (
    surface text NOT NULL,
    country text NOT NULL,
    language text NOT NULL,
    video_id text NOT NULL,
    hour integer NOT NULL,
    deeds bigint NOT NULL,
    total double precision NOT NULL,
    strength double precision,
    PRIMARY KEY (surface, country, language, video_id)
) WITH (fillfactor = 80);
CREATE INDEX IF NOT EXISTS trending_scores_best ON trending_scores
    (surface, country, language, strength DESC, video_id) WHERE strength IS NOT NULL;
CREATE INDEX IF NOT EXISTS trending_scores_gone ON trending_scores (video_id) WHERE deeds <= 0;
COMMENT ON TABLE trending_scores IS
    'total is the points as of hour; strength is their binary logarithm plus half-lives since 1970, NULL for none';

CREATE TABLE IF NOT EXISTS trending_progress (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    origin bigint NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    restored_at timestamptz NOT NULL DEFAULT '-infinity',
    transaction_id bigint NOT NULL,
    event_id uuid NOT NULL DEFAULT 'ffffffff-ffff-ffff-ffff-ffffffffffff',
    older_at timestamptz,
    older_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    scores_hour integer,
    complete boolean NOT NULL DEFAULT false,
    counted_at timestamptz NOT NULL DEFAULT '-infinity',
    newest_hour integer NOT NULL DEFAULT -2147483648,
    floor_hour integer NOT NULL DEFAULT -2147483648,
    window_h integer NOT NULL DEFAULT 0,
    half_life_s double precision NOT NULL DEFAULT 0,
    formula integer NOT NULL DEFAULT 0,
    seed bigint NOT NULL
);
COMMENT ON TABLE trending_progress IS
    'how far trending has counted: up to event_id of transaction_id; older_at is NULL when older rows are counted. '
    'Transactions of rows from before restored_at are of another server';
INSERT INTO trending_progress (origin, transaction_id, older_at, seed)
SELECT xmin - 1, xmin - 1, CASE WHEN EXISTS (SELECT FROM user_interactions) THEN '-infinity'::timestamptz END,
    hashtextextended(gen_random_uuid()::text, 0)
FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS xmin) AS now
ON CONFLICT DO NOTHING;

CREATE OR REPLACE FUNCTION trending_maintain() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    monday integer := ((now() AT TIME ZONE 'UTC')::date - '1970-01-05'::date) / 7 * 7 + 4;
    oldest bigint;
    first integer;
    name text;
BEGIN
    PERFORM pg_advisory_xact_lock(4701007);
    SELECT floor(floor_hour / 24.0) - ceil(window_h / 24.0) INTO oldest FROM trending_progress;
    FOR step IN 0..3 LOOP
        first := monday + 7 * step;
        name := 'trending_marks_' || first;
        IF to_regclass(name) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE TABLE %I PARTITION OF trending_marks FOR VALUES FROM (%s) TO (%s)',
                    name, first, first + 7);
            EXCEPTION WHEN check_violation THEN
                NULL; -- marks of this week are in the default partition already, and stay there
            END;
        END IF;
    END LOOP;
    FOR name IN
        SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'trending_marks'::regclass AND relname ~ '^trending_marks_[0-9]+$'
            AND substr(relname, 16)::integer + 7 <= oldest
    LOOP
        EXECUTE format('DROP TABLE %I', name);
    END LOOP;
END $$;
"""

# Whoever takes interactions in counts them, too.
_GRANT = """
DO $$
DECLARE
    one record;
    name text;
BEGIN
    FOR one IN
        SELECT DISTINCT grantee FROM pg_class, aclexplode(relacl)
        WHERE pg_class.oid = 'user_interactions'::regclass AND grantee <> 0 AND grantee <> relowner
            AND privilege_type = 'INSERT'
    LOOP
        FOREACH name IN ARRAY ARRAY[
            'trending_hours', 'trending_marks', 'trending_marks_default', 'trending_scores', 'trending_progress'
        ] LOOP
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO %I', name, one.grantee::regrole::text);
        END LOOP;
    END LOOP;
END $$;
"""


def upgrade() -> None:
    """Add a column, its index and four tables."""
    op.execute(_TRANSACTION)
    op.execute(SCHEMA)
    op.execute(_GRANT)


def downgrade() -> None:
    """Drop what can be counted again."""
    op.execute(
        "DROP FUNCTION trending_maintain;"
        " DROP TABLE trending_progress, trending_scores, trending_marks, trending_hours;"
        " ALTER TABLE user_interactions DROP COLUMN transaction_id"
    )
