-- What viewers liked within a time, also what they had liked before it.
SELECT DISTINCT user, video FROM events WHERE value > 0 AND at_ms >= $since_ms AND at_ms < $until_ms
ORDER BY user, video
