"""Serves health in a plain server: a watcher holds a thread, so their number is bounded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2

from servicekit.grpc.error_mapping import Handler
from servicekit.grpc.errors import ServiceError
from servicekit.grpc.limits import STOPPING, crowded
from servicekit.server.health_states import NOT_SERVING, UNKNOWN

WATCHERS: Final = 100
"""Watches that may be open."""


class PlainHealth:
    """Serves the health of services, and notifies watchers of changes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._states: dict[str, int] = {}
        self._is_final = self._is_dismissed = False
        self._watchers = 0

    def methods(self) -> dict[str, Handler]:
        """Return the handlers by name."""
        codec: Any = (health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString)
        return {
            "Check": grpc.unary_unary_rpc_method_handler(self._check, *codec),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch, *codec),
        }

    def set(self, service: str, state: int) -> None:
        """Set the state of a service, unless it is final."""
        with self._changed:
            if not self._is_final:
                self._states[service] = state
                self._changed.notify_all()

    def end(self) -> None:
        """Report NOT_SERVING of every service for good."""
        for service in list(self._states):
            self.set(service, NOT_SERVING)
        self._is_final = True

    def dismiss(self) -> None:
        """End all watches, as the server is about to end."""
        with self._changed:
            self._is_dismissed = True
            self._changed.notify_all()

    def _check(self, request: Any, _: grpc.ServicerContext) -> Any:
        """Return the state of a service."""
        state = self._states.get(request.service)
        if state is None:
            raise ServiceError(grpc.StatusCode.NOT_FOUND, "SERVICE_NOT_FOUND", "the service is not known")
        return health_pb2.HealthCheckResponse(status=state)

    def _watch(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        """Yield the state of a service, and each change."""
        with self._changed:
            if self._watchers >= WATCHERS:
                raise crowded("health")
            self._watchers += 1
        try:
            if context.add_callback(self._wake):
                yield from self._states_of(request.service, context)
        finally:
            with self._changed:
                self._watchers -= 1

    def _states_of(self, service: str, context: grpc.ServicerContext) -> Iterator[Any]:
        told = None
        while context.is_active():
            with self._changed:
                state = self._states.get(service, UNKNOWN)
                if state == told:
                    if self._is_dismissed:
                        raise STOPPING
                    self._changed.wait()
                    continue
            told = state
            yield health_pb2.HealthCheckResponse(status=state)

    def _wake(self) -> None:
        """Wake watchers, which check whether their callers are gone."""
        with self._changed:
            self._changed.notify_all()
