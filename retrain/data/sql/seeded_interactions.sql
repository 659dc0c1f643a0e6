SELECT user_id, video_id, kinds.name, watch_ms, make_timestamptz(at_ms * 1000)
FROM exported JOIN kinds USING (kind)
WHERE fault IS NULL AND is_identifier(user_id) AND is_identifier(video_id)
