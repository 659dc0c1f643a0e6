SELECT
    coalesce(fault, CASE WHEN NOT is_identifier(user_id) THEN 'user_id' ELSE 'video_id' END) AS fault, count(*) AS rows
FROM exported
WHERE fault IS NOT NULL OR NOT is_identifier(user_id) OR NOT is_identifier(video_id)
GROUP BY ALL
ORDER BY ALL
