"""The catalogue: what a video is, which videos and authors are hidden, and the topic that tells of it.

Whoever writes to these tables, a revision and an outbox row come with each change, by triggers in its transaction: so
programs that write to `videos` go on, whatever they know of it.
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# Authors are found by a hash, as those that other programs write may be too long for an index in order.
# The language has a name that no other table's column has: programs of before name columns without their tables.
# Rows of before have no revision until a bridge announces them, a few at a time.
# `changed_in` lets followers read what was committed since their last look: revisions are not committed in order.
TABLES = """
CREATE SEQUENCE IF NOT EXISTS catalogue_revision;

ALTER TABLE videos
    ADD COLUMN IF NOT EXISTS language_code text,
    ADD COLUMN IF NOT EXISTS expires_at timestamptz,
    ADD COLUMN IF NOT EXISTS allowed_countries text[] NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS denied_countries text[] NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS age_rating integer,
    ADD COLUMN IF NOT EXISTS attributes jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS embedding real[],
    ADD COLUMN IF NOT EXISTS revision bigint,
    ADD COLUMN IF NOT EXISTS changed_in xid8;
COMMENT ON COLUMN videos.revision IS 'of the last change; null until it has been announced';
CREATE INDEX IF NOT EXISTS videos_author ON videos USING hash (author_id);
CREATE INDEX IF NOT EXISTS videos_changed ON videos (changed_in);
CREATE INDEX IF NOT EXISTS videos_unannounced ON videos (video_id) WHERE revision IS NULL;

CREATE TABLE IF NOT EXISTS video_visibility (
    video_id text PRIMARY KEY,
    hidden boolean NOT NULL DEFAULT false,
    revision bigint NOT NULL DEFAULT 0,
    hide_revision bigint,
    reason text,
    actor text,
    since timestamptz,
    restore_reason text,
    restored_by text,
    restored_at timestamptz,
    stored_hides text[] NOT NULL DEFAULT '{}',
    changed_in xid8
);
COMMENT ON TABLE video_visibility IS 'a row for each video that was stored or hidden: what changes one waits here';
COMMENT ON COLUMN video_visibility.hide_revision IS 'of the last hide; null where there was none';
COMMENT ON COLUMN video_visibility.stored_hides IS 'the last hides that came from Kafka';
CREATE INDEX IF NOT EXISTS video_visibility_changed ON video_visibility (changed_in) WHERE hide_revision IS NOT NULL;
CREATE INDEX IF NOT EXISTS video_visibility_hidden ON video_visibility (video_id) WHERE hidden;

CREATE TABLE IF NOT EXISTS author_visibility (
    author_id text PRIMARY KEY,
    hidden boolean NOT NULL DEFAULT false,
    revision bigint NOT NULL DEFAULT 0,
    hide_revision bigint,
    reason text,
    actor text,
    since timestamptz,
    restore_reason text,
    restored_by text,
    restored_at timestamptz,
    stored_hides text[] NOT NULL DEFAULT '{}',
    changed_in xid8
);
CREATE INDEX IF NOT EXISTS author_visibility_changed ON author_visibility (changed_in) WHERE hide_revision IS NOT NULL;
CREATE INDEX IF NOT EXISTS author_visibility_hidden ON author_visibility (author_id) WHERE hidden;

CREATE TABLE IF NOT EXISTS catalogue_shape (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    embedding_length integer NOT NULL
);
COMMENT ON TABLE catalogue_shape IS 'how many numbers each embedding has, as the first one had';
"""

# An id of more than 128 bytes is none of this API, and has no record.
# A key's outbox row takes the place of the one before, as each tells the whole state. One that the relay is about to
# delete is passed over, as waiting for it could end in a deadlock.
RECORDS = """
CREATE OR REPLACE FUNCTION catalogue_instant(instant timestamptz) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN instant BETWEEN '0001-01-01 00:00Z' AND '9999-12-31 00:00Z'
        THEN to_char(instant AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') END
$$;

CREATE OR REPLACE FUNCTION catalogue_last_revision() RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT last_value FROM catalogue_revision
$$;

CREATE OR REPLACE FUNCTION catalogue_put(topic text, kind text, keys text[], payloads json[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    DELETE FROM interactions_outbox WHERE id IN (
        SELECT id FROM interactions_outbox
        WHERE aggregateid = ANY(keys) AND aggregatetype = topic FOR UPDATE SKIP LOCKED
    );
    INSERT INTO interactions_outbox (id, aggregatetype, aggregateid, type, payload, headers)
    SELECT id, topic, key, kind, payload, json_build_object('event-id', id)
    FROM (
        SELECT gen_random_uuid() AS id, key, payload FROM unnest(keys, payloads) AS given (key, payload) OFFSET 0
    ) AS numbered;
$$;

CREATE OR REPLACE FUNCTION catalogue_put_videos(ids text[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT catalogue_put('feed.catalogue.v1', 'video', array_agg(key), array_agg(payload)) FROM (
        SELECT 'video:' || one.id AS key,
            CASE WHEN videos.video_id IS NOT NULL OR seen.hide_revision IS NOT NULL THEN json_build_object(
                'schema', 1,
                'videoId', one.id,
                'revision', greatest(videos.revision, seen.revision),
                'known', videos.video_id IS NOT NULL,
                'authorId', videos.author_id,
                'tags', videos.tags,
                'language', videos.language_code,
                'durationMs', videos.duration_ms,
                'publishedAt', catalogue_instant(videos.published_at),
                'ageRating', videos.age_rating,
                'attributes', videos.attributes,
                'embedding', videos.embedding,
                'storedHides', coalesce(seen.stored_hides, '{}'),
                'expiresAt', catalogue_instant(videos.expires_at),
                'allowedCountries', coalesce(videos.allowed_countries, '{}'),
                'deniedCountries', coalesce(videos.denied_countries, '{}'),
                'hidden', CASE WHEN seen.hidden THEN json_build_object(
                    'reason', seen.reason, 'actor', seen.actor,
                    'since', catalogue_instant(seen.since), 'revision', seen.hide_revision
                ) END
            ) END AS payload
        FROM unnest(ids) AS one (id)
        LEFT JOIN videos ON videos.video_id = one.id
        LEFT JOIN video_visibility AS seen ON seen.video_id = one.id
        WHERE octet_length(one.id) <= 128
    ) AS states HAVING count(*) > 0
$$;

CREATE OR REPLACE FUNCTION catalogue_put_authors(ids text[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT catalogue_put('feed.catalogue.v1', 'author', array_agg(key), array_agg(payload)) FROM (
        SELECT 'author:' || author_id AS key, json_build_object(
            'schema', 1,
            'authorId', author_id,
            'revision', revision,
            'storedHides', stored_hides,
            'hidden', CASE WHEN hidden THEN json_build_object(
                'reason', reason, 'actor', actor, 'since', catalogue_instant(since), 'revision', hide_revision
            ) END
        ) AS payload
        FROM author_visibility WHERE author_id = ANY(ids) AND octet_length(author_id) <= 128
    ) AS states HAVING count(*) > 0
$$;

-- They run with the rights of the owner, for the triggers alone.
REVOKE EXECUTE ON FUNCTION catalogue_put, catalogue_put_videos, catalogue_put_authors FROM PUBLIC;
"""

# Revisions are taken behind the row's lock, so that of two changes to a video the later one has the higher: a change of
# visibility also waits for one of the video, and a new video for a hide of its id that is under way.
TRIGGERS = """
CREATE OR REPLACE FUNCTION videos_revised() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.revision IS NOT NULL THEN
        NEW.revision := OLD.revision;
        NEW.changed_in := OLD.changed_in;
        IF OLD.revision IS NOT NULL AND NEW IS NOT DISTINCT FROM OLD THEN
            RETURN NEW;
        END IF;
    END IF;
    NEW.revision := nextval('catalogue_revision');
    NEW.changed_in := pg_current_xact_id();
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION videos_inserted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO video_visibility (video_id) SELECT video_id FROM changed ORDER BY video_id ON CONFLICT DO NOTHING;
    UPDATE videos SET revision = NULL FROM changed JOIN video_visibility USING (video_id)
    WHERE videos.video_id = changed.video_id AND video_visibility.revision > changed.revision;
    PERFORM catalogue_put_videos(ARRAY(
        SELECT video_id FROM changed JOIN video_visibility USING (video_id)
        WHERE video_visibility.revision < changed.revision
    ));
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION videos_updated() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    -- Not by a join with the rows of before, whose plan of a first, small call would stay for large ones.
    PERFORM catalogue_put_videos(ARRAY(SELECT video_id FROM changed WHERE changed_in = pg_current_xact_id()));
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION videos_deleted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM catalogue_put_videos(ARRAY(SELECT video_id FROM before));
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION visibility_revised() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    was_hidden boolean := false;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        was_hidden := OLD.hidden;
    END IF;
    IF TG_TABLE_NAME = 'video_visibility' THEN
        PERFORM FROM videos WHERE video_id = NEW.video_id FOR NO KEY UPDATE;
    END IF;
    IF NEW.hidden IS DISTINCT FROM was_hidden OR TG_OP = 'UPDATE' THEN
        NEW.revision := nextval('catalogue_revision');
        NEW.changed_in := pg_current_xact_id();
    END IF;
    IF NEW.hidden AND NOT was_hidden THEN
        NEW.hide_revision := NEW.revision;
    ELSIF TG_OP = 'UPDATE' THEN
        NEW.hide_revision := OLD.hide_revision;
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION video_visibility_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM catalogue_put_videos(ARRAY(SELECT video_id FROM changed WHERE hide_revision IS NOT NULL));
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION author_visibility_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM catalogue_put_authors(ARRAY(SELECT author_id FROM changed WHERE hide_revision IS NOT NULL));
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER revised BEFORE INSERT OR UPDATE ON videos
    FOR EACH ROW EXECUTE FUNCTION videos_revised();
CREATE OR REPLACE TRIGGER inserted AFTER INSERT ON videos
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION videos_inserted();
CREATE OR REPLACE TRIGGER updated AFTER UPDATE ON videos
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION videos_updated();
CREATE OR REPLACE TRIGGER deleted AFTER DELETE ON videos
    REFERENCING OLD TABLE AS before FOR EACH STATEMENT EXECUTE FUNCTION videos_deleted();
CREATE OR REPLACE TRIGGER revised_new BEFORE INSERT ON video_visibility
    FOR EACH ROW WHEN (NEW.hidden) EXECUTE FUNCTION visibility_revised();
CREATE OR REPLACE TRIGGER revised BEFORE UPDATE ON video_visibility
    FOR EACH ROW EXECUTE FUNCTION visibility_revised();
CREATE OR REPLACE TRIGGER inserted AFTER INSERT ON video_visibility
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION video_visibility_changed();
CREATE OR REPLACE TRIGGER updated AFTER UPDATE ON video_visibility
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION video_visibility_changed();
CREATE OR REPLACE TRIGGER revised BEFORE INSERT OR UPDATE ON author_visibility
    FOR EACH ROW EXECUTE FUNCTION visibility_revised();
CREATE OR REPLACE TRIGGER inserted AFTER INSERT ON author_visibility
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION author_visibility_changed();
CREATE OR REPLACE TRIGGER updated AFTER UPDATE ON author_visibility
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION author_visibility_changed();
"""


def upgrade() -> None:
    """Add columns, tables and triggers."""
    op.execute(TABLES)
    op.execute(RECORDS)
    op.execute(TRIGGERS)


def downgrade() -> None:
    """Refuse: going back would show what is hidden."""
    raise NotImplementedError("what is hidden stays hidden")
