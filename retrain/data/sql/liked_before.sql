-- What some users liked before an instant, the latest first, and whether they said so.
SELECT user, video, bool_or(told) AS told
FROM (
    SELECT user, video, at_ms, value, liked AS told FROM events WHERE value > 0 AND at_ms < $until_ms
    UNION ALL
    SELECT user, video, at_ms, value, value >= 1 AS told FROM past_events WHERE at_ms < $until_ms
)
WHERE list_contains($users, user)
GROUP BY user, video
ORDER BY user, max(at_ms) DESC, max(value) DESC, video
