"""Reads the followed topics of Kafka and writes their messages to the store."""
