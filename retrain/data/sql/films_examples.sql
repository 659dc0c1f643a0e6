SELECT 'video_id' AS fault, coalesce(left("videoId", 40), '') AS value, count(*) AS rows
FROM films
WHERE NOT is_identifier("videoId")
GROUP BY ALL
ORDER BY rows DESC, value
LIMIT $most
