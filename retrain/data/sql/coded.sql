-- The exported rows as numbers, good and broken.
CREATE TABLE coded AS
SELECT
    users.user, videos.video, e.kind, e.at_ms, e.watch_ms,
    coalesce(e.fault, CASE WHEN users.user IS NULL THEN 'user_id' WHEN videos.video IS NULL THEN 'video_id' END) AS fault
FROM exported AS e
LEFT JOIN users USING (user_id)
LEFT JOIN videos USING (video_id)
