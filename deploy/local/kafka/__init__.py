"""Brokers for this machine: Apache Kafka where Java and Maven are available, else a mock cluster in memory."""
