-- The rows as exported, with what is wrong with them besides their identifiers. A view: rows are never held in memory.
CREATE VIEW exported AS
SELECT
    r.user_id, r.video_id, r.watch_ms, r.at_ms, kinds.kind,
    CASE
        WHEN r.at_ms IS NULL THEN 'timestamp'
        WHEN r.at_ms >= getvariable('until_ms') THEN 'future'
        WHEN r.watch_ms IS NULL OR r.watch_ms < 0 THEN 'watch_time'
        WHEN kinds.kind IS NULL THEN 'interaction_type'
    END AS fault
FROM (
    SELECT
        "userId" AS user_id, "videoId" AS video_id, "interactionType" AS type, "watchTime" AS watch_ms,
        epoch_ms(try_cast("timestamp" AS TIMESTAMPTZ)) AS at_ms
    FROM read_parquet(getvariable('exports'))
) AS r
LEFT JOIN kinds ON kinds.name = r.type
LEFT JOIN forgotten USING (user_id) -- a correlated NOT EXISTS takes twice as long as all else
WHERE forgotten.user_id IS NULL OR r.at_ms > forgotten.at_ms
