-- What viewers liked within a time, or with $watched also what they only watched, and were not shown before it.
SELECT DISTINCT user, video FROM events
WHERE (liked OR ($watched AND value > 0)) AND at_ms >= $since_ms AND at_ms < $until_ms
EXCEPT
(
    SELECT user, video FROM events WHERE at_ms < $since_ms
    UNION
    SELECT user, video FROM past_events WHERE at_ms < $since_ms
)
ORDER BY user, video
