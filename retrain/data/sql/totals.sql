SELECT
    (SELECT count(*) FROM coded) AS read,
    (SELECT count(*) FROM coded WHERE fault IS NULL) - (SELECT count(*) FROM events) AS repeated,
    (SELECT count(*) FROM events) AS events,
    (SELECT count(*) FROM events WHERE at_ms >= $last_day_ms) AS last_day_events,
    (SELECT count(*) FROM past_events) AS past_events,
    (SELECT count(*) FROM users) AS users,
    (SELECT count(*) FROM videos) AS videos
