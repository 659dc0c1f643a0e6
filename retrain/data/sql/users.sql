-- Everybody who was ever shown a video; a row is the rank of the identifier by its bytes.
CREATE TABLE users AS
SELECT (row_number() OVER (ORDER BY user_id) - 1)::INTEGER AS user, user_id
FROM (SELECT user_id FROM named UNION SELECT user_id FROM past)
WHERE is_identifier(user_id)
