-- What is wrong most often, by what it is that is wrong.
SELECT fault, coalesce(left(offending, 40), '') AS value, count(*) AS rows
FROM imported
WHERE fault IS NOT NULL
GROUP BY fault, coalesce(left(offending, 40), '')
QUALIFY row_number() OVER (PARTITION BY fault ORDER BY count(*) DESC, value) <= $most
ORDER BY fault, rows DESC, value
