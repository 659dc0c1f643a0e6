-- What each viewer liked before an instant, and how much: older interactions weigh less.
WITH taken_back AS (
    SELECT user, video, max(at_ms) AS at_ms FROM events WHERE takes_back AND at_ms < $until_ms GROUP BY ALL
),
liked AS (
    SELECT user, video, value, at_ms FROM events WHERE value > 0 AND at_ms < $until_ms
    UNION ALL
    SELECT user, video, value, at_ms FROM past_events WHERE at_ms < $until_ms
)
SELECT
    user, video,
    -- Rounded, as the order of parallel additions must not show in the last bit.
    least($most, round(sum(value * pow(0.5, ($until_ms - liked.at_ms) / $half_life_ms)), 6))::FLOAT AS weight
FROM liked
LEFT JOIN taken_back AS back USING (user, video)
WHERE back.at_ms IS NULL OR liked.at_ms > back.at_ms
GROUP BY ALL
HAVING weight > 0
ORDER BY user, video
