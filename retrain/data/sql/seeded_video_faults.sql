SELECT 'catalogue_video_id' AS fault, count(*) AS rows FROM video_rows WHERE NOT is_identifier("videoId") HAVING rows > 0
