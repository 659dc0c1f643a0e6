SELECT
    duration_ms, published_at_ms,
    CASE WHEN author_id IS NULL THEN -1 ELSE dense_rank() OVER (ORDER BY author_id NULLS LAST) - 1 END::INTEGER AS author
FROM videos
ORDER BY video
