"""Runs the whole system on one machine: real Postgres and Kafka, a model, and both services."""
