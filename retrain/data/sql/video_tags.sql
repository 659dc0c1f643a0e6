SELECT video, (dense_rank() OVER (ORDER BY tag) - 1)::INTEGER AS tag
FROM (SELECT video, unnest(tags) AS tag FROM videos)
ORDER BY video, tag
