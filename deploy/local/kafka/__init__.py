"""A broker for this machine: Apache Kafka where Java and Maven are there, else a mock cluster in memory."""
