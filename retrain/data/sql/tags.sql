SELECT DISTINCT unnest(tags) AS id FROM videos ORDER BY id
