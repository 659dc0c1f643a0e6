SELECT user_id AS id FROM users ORDER BY user
