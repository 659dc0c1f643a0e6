-- The rows as exported, with what is wrong with them besides their identifiers. A view: rows are never held in memory.
-- A watch time is missing only where it says something; other kinds have none.
CREATE VIEW exported AS
SELECT
    r.user_id, r.video_id, coalesce(r.watch_ms, 0) AS watch_ms, r.at_ms, kinds.kind,
    CASE
        WHEN r.at_ms IS NULL THEN 'timestamp'
        WHEN r.at_ms >= getvariable('until_ms') THEN 'future'
        WHEN r.watch_ms < 0 OR (r.watch_ms IS NULL AND kinds.watched > 0) THEN 'watch_time'
        WHEN kinds.kind IS NULL THEN 'interaction_type'
    END AS fault
FROM (
    SELECT
        "userId" AS user_id, "videoId" AS video_id, "interactionType" AS type, "watchTime" AS watch_ms,
        "timestamp" AS at_ms
    FROM export_rows
) AS r
LEFT JOIN kinds ON kinds.name = r.type
LEFT JOIN forgotten USING (user_id) -- a correlated NOT EXISTS takes twice as long as all else
WHERE forgotten.user_id IS NULL OR r.at_ms > forgotten.at_ms
