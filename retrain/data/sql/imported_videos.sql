SELECT * FROM films WHERE is_identifier("videoId") ORDER BY "videoId"
