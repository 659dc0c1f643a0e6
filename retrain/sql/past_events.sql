CREATE TABLE past_events AS
SELECT viewers.user, videos.video, past.value, past.at_ms
FROM past JOIN viewers USING (user_id) JOIN videos USING (video_id)
