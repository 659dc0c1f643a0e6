"""gRPC servers: start, health, reflection, drain."""
