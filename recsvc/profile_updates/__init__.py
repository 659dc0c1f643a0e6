"""What callers tell of users: brought to Kafka or kept for it, and known on this machine at once."""
