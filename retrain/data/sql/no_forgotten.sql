CREATE TABLE forgotten (user_id VARCHAR, at_ms BIGINT)
