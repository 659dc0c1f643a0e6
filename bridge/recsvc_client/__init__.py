"""The client of recsvc: replicas, balancing, circuit breaker, retries, hedging, concurrency limit."""
