-- Time-decayed weighted count of the interactions of each video before an instant.
SELECT video, round(sum(value * pow(0.5, ($until_ms - at_ms) / $half_life_ms)), 6)::FLOAT AS popularity
FROM (
    SELECT video, value, at_ms FROM events WHERE value > 0 AND at_ms < $until_ms
    UNION ALL
    SELECT video, value, at_ms FROM past_events WHERE at_ms < $until_ms
)
GROUP BY video
ORDER BY video
