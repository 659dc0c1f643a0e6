-- What each user liked before an instant, and how much: older interactions weigh less.
SELECT user, video, least($most, weight)::FLOAT AS weight
FROM liked_until($until_ms, $half_life_ms, NULL)
ORDER BY user, video
