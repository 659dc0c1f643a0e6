SELECT "interactionType" AS kind, count(*) AS rows FROM written GROUP BY ALL ORDER BY rows DESC, kind
