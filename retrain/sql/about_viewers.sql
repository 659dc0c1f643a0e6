SELECT user, user_id FROM viewers WHERE list_contains($rows, user)
