-- Tags as an array of Postgres, which is text in CSV.
SELECT
    "videoId",
    CASE WHEN is_identifier("authorId") THEN "authorId" END,
    '{' || array_to_string(
        list_transform(
            list_filter(coalesce("tags", []), lambda tag: is_identifier(tag)),
            lambda tag: '"' || replace(replace(tag, '\', '\\'), '"', '\"') || '"'
        ), ','
    ) || '}',
    CASE WHEN "durationMs" >= 0 THEN "durationMs" END,
    make_timestamptz("uploadDate" * 1000)
FROM video_rows
WHERE is_identifier("videoId")
