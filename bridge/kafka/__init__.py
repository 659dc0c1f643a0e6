"""Kafka: messages, producer, publisher, consumer, topics, dead letters."""
