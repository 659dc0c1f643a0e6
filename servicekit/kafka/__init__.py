"""Settings and security of Kafka's clients."""
