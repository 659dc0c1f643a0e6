DELETE FROM past USING forgotten WHERE past.user_id = forgotten.user_id AND past.at_ms <= forgotten.at_ms
