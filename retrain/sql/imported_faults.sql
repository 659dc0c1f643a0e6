SELECT fault, count(*) AS rows FROM imported WHERE fault IS NOT NULL GROUP BY fault ORDER BY fault
