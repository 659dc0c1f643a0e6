-- Rows of the other files that are of no use, or of less, by what is wrong with them.
SELECT fault, count(*) AS rows
FROM (
    SELECT CASE
        WHEN NOT is_identifier(video_id) THEN 'catalogue_video_id'
        WHEN author_id IS NOT NULL AND NOT is_identifier(author_id) THEN 'catalogue_author_id'
        WHEN duration_ms < 0 THEN 'catalogue_duration'
    END AS fault
    FROM catalogue
    UNION ALL
    SELECT CASE
        WHEN NOT is_identifier(user_id) THEN 'history_user_id'
        WHEN NOT is_identifier(video_id) THEN 'history_video_id'
    END AS fault
    FROM past
)
WHERE fault IS NOT NULL
GROUP BY fault
ORDER BY fault
