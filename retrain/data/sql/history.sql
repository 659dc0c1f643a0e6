-- What users did before the exports begin, in order; single times are not known, so all is about as old as the last
-- of it: a millisecond from one to the next keeps the order. Without a time, it is before them.
CREATE TABLE past AS
WITH entries AS (
    SELECT
        "userId" AS user_id, unnest("watched") AS video_id, 0.15 AS value, "lastWatchedAt" AS last_at,
        unnest(range(len("watched") - 1, -1, -1)) AS before_last
    FROM history_rows
    UNION ALL
    SELECT "userId", unnest("longWatched"), 0.5, "lastWatchedAt", NULL FROM history_rows
    UNION ALL
    SELECT "userId", unnest("liked"), 1.0, "lastWatchedAt", NULL FROM history_rows
)
SELECT
    user_id, video_id, max(value)::FLOAT AS value,
    max(coalesce(last_at, $start_ms - 1)) - coalesce(min(before_last), 0) AS at_ms
FROM entries
GROUP BY ALL
