-- What users liked before an instant, each pair once: the sum of what they said, and when they said it last.
-- Arguments are those of the statements that use it; users are the users that are asked for, NULL for all.
CREATE MACRO liked_until(until_ms, half_life_ms, users) AS TABLE
WITH taken_back AS (
    SELECT user, video, max(at_ms) AS at_ms FROM events WHERE takes_back AND at_ms < until_ms GROUP BY ALL
),
liked AS (
    SELECT user, video, value, at_ms FROM (
        SELECT user, video, value, at_ms FROM events WHERE value > 0
        UNION ALL
        SELECT user, video, value, at_ms FROM past_events
    )
    WHERE at_ms < until_ms AND (users IS NULL OR user IN (SELECT unnest(users)))
)
SELECT
    user, video,
    -- Rounded, as the order of parallel additions must not show in the last bit.
    round(sum(value * pow(0.5, (until_ms - liked.at_ms) / half_life_ms)), 6) AS weight,
    max(liked.at_ms) AS last_ms
FROM liked
LEFT JOIN taken_back AS back USING (user, video)
WHERE back.at_ms IS NULL OR liked.at_ms > back.at_ms
GROUP BY ALL
HAVING weight > 0
