SELECT user, user_id FROM users WHERE list_contains($rows, user)
