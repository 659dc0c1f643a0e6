SELECT "interactionType" AS kind, count(*) AS rows FROM read_parquet($files) GROUP BY ALL ORDER BY rows DESC, kind
