CREATE TABLE past (user_id VARCHAR, video_id VARCHAR, value FLOAT, at_ms BIGINT)
