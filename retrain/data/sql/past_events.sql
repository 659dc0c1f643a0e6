CREATE TABLE past_events AS
SELECT users.user, videos.video, past.value, past.at_ms
FROM past JOIN users USING (user_id) JOIN videos USING (video_id)
