-- What each day's interactions look like, oldest day first.
WITH daily AS (SELECT at_ms // 86400000 AS day, user, video FROM events),
first_days AS (
    SELECT user, min(day) AS day
    FROM (SELECT user, day FROM daily UNION ALL SELECT user, -1 FROM past_events)
    GROUP BY user
),
videos_of_days AS (SELECT day, video, count(*) AS events FROM daily GROUP BY ALL)
SELECT
    daily.day::BIGINT AS day,
    count(*) AS events,
    (SELECT max(v.events) FROM videos_of_days AS v WHERE v.day = daily.day) / count(*) AS top_video_share,
    avg((first_days.day = daily.day)::INT) AS new_viewer_share
FROM daily
JOIN first_days USING (user)
GROUP BY daily.day
ORDER BY daily.day
