SELECT
    user_id AS "userId", video_id AS "videoId", kind AS "interactionType", watch_ms::BIGINT AS "watchTime",
    strftime(make_timestamp_ms(at_ms), '%Y-%m-%dT%H:%M:%S.%gZ') AS "timestamp",
    at_ms // 86400000 AS day
FROM imported
WHERE fault IS NULL
ORDER BY at_ms, user_id, video_id, kind, watch_ms
