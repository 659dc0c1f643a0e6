-- What each user, or each of $users, liked last before an instant, and how much it says of what they like now.
SELECT user, video, round(least($most, weight) * pow(0.5, (place - 1) / $half_life_places), 6)::FLOAT AS weight
FROM (
    SELECT user, video, weight, row_number() OVER (PARTITION BY user ORDER BY last_ms DESC, video) AS place
    FROM liked_until($until_ms, $half_life_ms, $users)
)
WHERE place <= $most_places
ORDER BY user, video
