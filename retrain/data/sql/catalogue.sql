CREATE TABLE catalogue AS
SELECT
    "videoId" AS video_id,
    any_value("authorId") AS author_id,
    any_value("tags") AS tags,
    any_value("durationMs") AS duration_ms,
    any_value("uploadDate") AS published_at_ms
FROM video_rows
GROUP BY ALL
