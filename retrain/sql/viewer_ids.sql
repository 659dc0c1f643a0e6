SELECT user_id AS id FROM viewers ORDER BY user
