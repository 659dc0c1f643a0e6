SELECT video, video_id, author_id, coalesce(tags, []) AS tags FROM videos WHERE list_contains($rows, video)
