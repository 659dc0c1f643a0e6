-- Those users of the files who are to be forgotten, each once, and until when: `exported` would repeat rows else.
CREATE TABLE forgotten AS
SELECT one.user_id, marks.at_ms
FROM (
    SELECT DISTINCT "userId" AS user_id FROM export_rows WHERE "userId" IS NOT NULL
    UNION
    SELECT user_id FROM past WHERE user_id IS NOT NULL
) AS one
JOIN (
    SELECT unnest($marks) AS mark, unnest($times) AS at_ms
) AS marks ON marks.mark = user_fingerprint(one.user_id)
