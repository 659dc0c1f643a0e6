"""Defines the states of a service's health."""

from typing import Final

from grpc_health.v1 import health_pb2

SERVING: Final = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN: Final = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
HEALTH_SERVICE: Final = "grpc.health.v1.Health"
