"""Deployment of the services."""
