"""Calls to recsvc: replicas, balancing, circuit breaker, retries, hedging, concurrency limit."""
