-- Somebody's rows as interactions, with what is wrong with them, and the value that it is.
CREATE VIEW imported AS
SELECT
    *,
    CASE fault
        WHEN 'user_id' THEN user_id
        WHEN 'video_id' THEN video_id
        WHEN 'timestamp' THEN told_at
        WHEN 'watch_time' THEN told_watch
        WHEN 'value' THEN told_value
        WHEN 'interaction_type' THEN kind
    END AS offending
FROM (
    SELECT
        *,
        CASE
            WHEN NOT is_identifier(user_id) THEN 'user_id'
            WHEN NOT is_identifier(video_id) THEN 'video_id'
            WHEN at_ms IS NULL THEN 'timestamp'
            WHEN watch_ms < 0 THEN 'watch_time'
            WHEN kind IS NULL AND getvariable('rated') THEN 'value'
            WHEN kind IS NULL OR kind NOT IN (SELECT name FROM kinds) THEN 'interaction_type'
        END AS fault
    FROM (
        SELECT
            user_id, video_id, happened_at AS told_at, watch_ms AS told_watch, told_value,
            instant_ms(happened_at) AS at_ms,
            CASE WHEN watch_ms IS NULL OR watch_ms = '' THEN 0
                ELSE coalesce(whole(try_cast(watch_ms AS DOUBLE)), -1) END AS watch_ms,
            CASE
                WHEN NOT getvariable('rated') THEN kind
                WHEN value >= getvariable('liked_from') THEN 'like'
                WHEN value IS NOT NULL THEN 'rating'
            END AS kind
        FROM (
            SELECT * REPLACE (finite_number(try_cast(value AS DOUBLE)) AS value), value AS told_value FROM raw
        )
    )
)
