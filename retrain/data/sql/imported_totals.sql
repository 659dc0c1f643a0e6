SELECT count(*) AS interactions, count(DISTINCT "userId") AS users, count(DISTINCT "videoId") AS videos
FROM written
