-- Milliseconds since 1970 of a time as text: ISO 8601, or a number of seconds, milliseconds or microseconds by its size.
-- Null before 1990 and after tomorrow: no such thing was recorded.
CREATE MACRO instant_ms(text) AS (
    SELECT CASE WHEN ms BETWEEN 631152000000 AND epoch_ms(now()) + 86400000 THEN ms END
    FROM (
        SELECT coalesce(
            whole(CASE
                WHEN number < 1e11 THEN number * 1000
                WHEN number < 1e14 THEN number
                WHEN number < 1e17 THEN number / 1000
            END),
            CASE WHEN number IS NULL THEN epoch_ms(try_cast(text AS TIMESTAMPTZ)) END
        ) AS ms
        FROM (SELECT try_cast(text AS DOUBLE) AS number)
    )
)
