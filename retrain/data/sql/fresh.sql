-- What users liked within a time, also what they had liked before it. A history's time is that of its end.
SELECT DISTINCT user, video FROM (
    SELECT user, video, at_ms FROM events WHERE value > 0
    UNION ALL
    SELECT user, video, at_ms FROM past_events
)
WHERE at_ms >= $since_ms AND at_ms < $until_ms
ORDER BY user, video
