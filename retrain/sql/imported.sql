-- Somebody's rows as interactions, with what is wrong with them.
CREATE VIEW imported AS
SELECT
    *,
    CASE
        WHEN NOT is_identifier(user_id) THEN 'user_id'
        WHEN NOT is_identifier(video_id) THEN 'video_id'
        WHEN at_ms IS NULL THEN 'timestamp'
        WHEN watch_ms IS NULL OR watch_ms < 0 THEN 'watch_time'
        WHEN kind IS NULL AND getvariable('rated') THEN 'value'
        WHEN kind IS NULL OR kind NOT IN (SELECT name FROM kinds) THEN 'interaction_type'
    END AS fault
FROM (
    SELECT
        user_id, video_id, instant_ms(happened_at) AS at_ms,
        CASE WHEN watch_ms IS NULL THEN 0 ELSE try_cast(try_cast(watch_ms AS DOUBLE) AS BIGINT) END AS watch_ms,
        CASE
            WHEN NOT getvariable('rated') THEN kind
            WHEN value >= getvariable('liked_from') THEN 'like'
            WHEN value IS NOT NULL THEN 'rating'
        END AS kind
    FROM (SELECT * REPLACE (try_cast(value AS DOUBLE) AS value) FROM raw)
)
