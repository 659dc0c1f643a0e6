-- What viewers did before the exports begin; single times are not known, so all is as old as the last of it.
CREATE TABLE past AS
WITH entries AS (
    SELECT "userId" AS user_id, unnest("watched") AS video_id, 0.15 AS value, "lastWatchedAt" AS last_at FROM read_parquet($file)
    UNION ALL
    SELECT "userId", unnest("longWatched"), 0.5, "lastWatchedAt" FROM read_parquet($file)
    UNION ALL
    SELECT "userId", unnest("liked"), 1.0, "lastWatchedAt" FROM read_parquet($file)
)
SELECT user_id, video_id, max(value)::FLOAT AS value, max(coalesce(epoch_ms(last_at), $start_ms)) AS at_ms
FROM entries
GROUP BY ALL
