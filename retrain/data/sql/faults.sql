SELECT fault, count(*) AS rows FROM coded WHERE fault IS NOT NULL GROUP BY fault ORDER BY fault
