-- Every exposure before an instant, whatever the user made of it.
SELECT user, video FROM events WHERE at_ms < $until_ms
UNION
SELECT user, video FROM past_events WHERE at_ms < $until_ms
ORDER BY user, video
