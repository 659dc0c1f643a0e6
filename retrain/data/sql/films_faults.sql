SELECT CASE WHEN NOT is_identifier("videoId") THEN 'video_id' END AS fault, count(*) AS rows FROM films
GROUP BY fault ORDER BY fault
