"""Servers of gRPC: start, health, reflection, drain."""
