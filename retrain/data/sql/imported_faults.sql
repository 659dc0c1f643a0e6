SELECT fault, count(*) AS rows FROM imported GROUP BY fault ORDER BY fault
