SELECT DISTINCT author_id AS id FROM videos WHERE author_id IS NOT NULL ORDER BY id
