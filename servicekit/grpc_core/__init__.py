"""Calls answered directly on gRPC's core: events, bulkheads, conversations without a thread."""
