SELECT video_id AS id FROM videos ORDER BY video
