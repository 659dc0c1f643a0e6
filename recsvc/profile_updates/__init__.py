"""Updates and erasures that callers send: written to Kafka or kept for it, and known on this machine at once."""
