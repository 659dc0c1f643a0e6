CREATE TABLE catalogue AS
SELECT
    "videoId" AS video_id,
    any_value("authorId") AS author_id,
    any_value("tags") AS tags,
    any_value("durationMs")::BIGINT AS duration_ms,
    any_value(epoch_ms(try_cast("uploadDate" AS TIMESTAMPTZ))) AS published_at_ms
FROM read_parquet($file)
GROUP BY ALL
