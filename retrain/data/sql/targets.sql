-- What users liked within a time, or with $watched also what they only watched, and were not shown before it.
WITH liked AS (
    SELECT DISTINCT user, video FROM events
    WHERE (liked OR ($watched AND value > 0)) AND at_ms >= $since_ms AND at_ms < $until_ms
)
SELECT user, video FROM liked
EXCEPT
SELECT user, video FROM (
    SELECT user, video, at_ms FROM events UNION ALL SELECT user, video, at_ms FROM past_events
)
WHERE at_ms < $since_ms AND user IN (SELECT user FROM liked)
ORDER BY user, video
