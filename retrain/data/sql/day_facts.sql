-- What each day's interactions look like, oldest day first.
WITH daily AS (SELECT at_ms // 86400000 AS day, at_ms // 3600000 % 24 AS hour, user, video FROM events),
totals AS (SELECT day, count(*) AS events FROM daily GROUP BY day),
users_of_days AS (SELECT day, user, count(*) AS events FROM daily GROUP BY ALL),
new_users AS (
    SELECT first_days.day, sum(v.events) AS events
    FROM (
        SELECT user, min(day) AS day
        FROM (SELECT user, day FROM users_of_days UNION ALL SELECT user, -1 FROM past_events)
        GROUP BY user
    ) AS first_days
    JOIN users_of_days AS v USING (user, day)
    GROUP BY first_days.day
),
returns AS (
    SELECT before.day + 1 AS day, coalesce(sum(v.events), 0) / count(*) AS events
    FROM users_of_days AS before
    LEFT JOIN users_of_days AS v ON v.user = before.user AND v.day = before.day + 1
    GROUP BY before.day
),
videos_of_days AS (SELECT day, video, count(*) AS events FROM daily GROUP BY ALL),
videos_by_day AS (
    SELECT day, max(events) AS most, sqrt(sum(events * events)) AS length FROM videos_of_days GROUP BY day
),
agreement AS (
    SELECT v.day, sum(v.events * before.events) AS product
    FROM videos_of_days AS v
    JOIN videos_of_days AS before ON before.video = v.video AND before.day = v.day - 1
    GROUP BY v.day
),
repeats AS (
    SELECT day, avg((day > first_day)::INT) AS share
    FROM (
        SELECT day, min(day) OVER (PARTITION BY user, video) AS first_day
        FROM (
            SELECT DISTINCT day, user, video FROM daily WHERE user % $stride = 0
            UNION
            SELECT -1, user, video FROM past_events WHERE user % $stride = 0
        )
    )
    GROUP BY day
),
hours AS (
    SELECT t.day, h.hour, count(daily.day) AS events
    FROM totals AS t CROSS JOIN range(24) AS h (hour) LEFT JOIN daily ON daily.day = t.day AND daily.hour = h.hour
    GROUP BY ALL
),
usual_hours AS (
    SELECT day, events, coalesce(sum(events) OVER earlier, 0) AS before, count(*) OVER earlier AS days
    FROM hours
    WINDOW earlier AS (PARTITION BY hour ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
),
silence AS (
    SELECT day, sum(before) FILTER (WHERE events * days < 0.1 * before) / sum(before) AS share
    FROM usual_hours
    GROUP BY day
)
SELECT
    totals.day::BIGINT AS day,
    totals.events,
    v.most / totals.events AS top_video_share,
    coalesce(new_users.events / totals.events, 0) AS new_user_share,
    coalesce(returns.events, 0) AS events_of_known_users,
    coalesce(product / (v.length * before.length), 0) AS video_agreement,
    coalesce(repeats.share, 0) AS repeat_share,
    coalesce(silence.share, 0) AS silent_share
FROM totals
JOIN videos_by_day AS v USING (day)
LEFT JOIN videos_by_day AS before ON before.day = totals.day - 1
LEFT JOIN new_users ON new_users.day = totals.day
LEFT JOIN returns ON returns.day = totals.day
LEFT JOIN agreement ON agreement.day = totals.day
LEFT JOIN repeats ON repeats.day = totals.day
LEFT JOIN silence ON silence.day = totals.day
ORDER BY totals.day
