CREATE TABLE catalogue (
    video_id VARCHAR, author_id VARCHAR, tags VARCHAR[], duration_ms BIGINT, published_at_ms BIGINT
)
