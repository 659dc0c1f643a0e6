"""The outbox in Postgres, and its relay to Kafka."""
