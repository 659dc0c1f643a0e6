-- Every video that was ever shown or that the catalogue holds; a row is the rank of the identifier by its bytes.
CREATE TABLE videos AS
SELECT
    (row_number() OVER (ORDER BY v.video_id) - 1)::INTEGER AS video,
    v.video_id,
    CASE WHEN is_identifier(c.author_id) THEN c.author_id END AS author_id,
    list_distinct(list_filter(c.tags, lambda tag: is_identifier(tag))) AS tags,
    CASE WHEN c.duration_ms > 0 THEN c.duration_ms ELSE -1 END AS duration_ms,
    coalesce(c.published_at_ms, -1) AS published_at_ms
FROM (
    SELECT video_id FROM named
    UNION SELECT video_id FROM past
    UNION SELECT video_id FROM catalogue
) AS v
LEFT JOIN catalogue AS c USING (video_id)
WHERE is_identifier(v.video_id)
