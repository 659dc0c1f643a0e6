"""Serves health from one thread of its own, however busy the threads of other calls are."""

from __future__ import annotations

import threading
from functools import partial
from typing import Final

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from servicekit.grpc_core.conversation import Conversation, Conversations
from servicekit.server.health_states import HEALTH_SERVICE, NOT_SERVING, UNKNOWN

OPEN: Final = 1_000
"""Checks and watches that may be open."""


class HealthService:
    """Serves the health of services, and notifies watchers of changes.

    Args:
        server: Not started yet.
    """

    def __init__(self, server: grpc.Server) -> None:
        self.conversations = Conversations(server, "health", limit=OPEN)
        self.conversations.add(f"/{HEALTH_SERVICE}/Check", lambda one: one.receive(partial(self._check, one)))
        self.conversations.add(f"/{HEALTH_SERVICE}/Watch", lambda one: one.receive(partial(self._watch, one)))
        self._lock = threading.Lock()
        self._states: dict[str, int] = {}
        self._watchers: dict[str, set[_Watcher]] = {}
        self._is_final = False

    def begin(self) -> None:
        """Answer calls from now on; the server has just been started."""
        self.conversations.completions.begin()

    def set(self, service: str, state: int) -> None:
        """Set the state of a service, unless it is final."""
        with self._lock:
            if self._is_final:
                return
            self._states[service] = state
            for watcher in self._watchers.get(service, ()):
                watcher.tell(state)

    def end(self) -> None:
        """Report NOT_SERVING of every service for good."""
        for service in list(self._states):
            self.set(service, NOT_SERVING)
        self._is_final = True

    def _check(self, conversation: Conversation, data: bytes | None) -> None:
        service = _service(conversation, data)
        if service is None:
            return
        state = self._states.get(service)
        if state is None:
            conversation.finish(grpc.StatusCode.NOT_FOUND, "the service is not known")
        else:
            conversation.send(_reply(state), conversation.finish)

    def _watch(self, conversation: Conversation, data: bytes | None) -> None:
        service = _service(conversation, data)
        if service is None:
            return
        watcher = _Watcher(conversation)
        with self._lock:
            self._watchers.setdefault(service, set()).add(watcher)
            watcher.tell(self._states.get(service, UNKNOWN))
        conversation.at_end(lambda: self._forget(service, watcher))

    def _forget(self, service: str, watcher: _Watcher) -> None:
        with self._lock:
            watchers = self._watchers.get(service, set())
            watchers.discard(watcher)
            if not watchers:
                self._watchers.pop(service, None)


class _Watcher:
    """Sends states to one caller; a caller who reads slowly gets only the newest."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._lock = threading.Lock()
        self._is_sending = False
        self._told: int | None = None
        self._due: int | None = None

    def tell(self, state: int) -> None:
        """Send a state soon, unless it was sent last."""
        with self._lock:
            self._due = state
            if self._is_sending or state == self._told:
                return
            self._is_sending = True
            self._told = state
        self._conversation.send(_reply(state), self._sent)

    def _sent(self) -> None:
        with self._lock:
            self._is_sending = False
            due = self._due
        if due is not None:
            self.tell(due)


def _service(conversation: Conversation, data: bytes | None) -> str | None:
    """Return the requested service; None if the call has been ended for an unknown one."""
    try:
        if data is not None:
            return health_pb2.HealthCheckRequest.FromString(data).service
    except DecodeError:
        pass
    conversation.finish(grpc.StatusCode.INVALID_ARGUMENT, "one HealthCheckRequest is required")
    return None


def _reply(state: int) -> bytes:
    return health_pb2.HealthCheckResponse(status=state).SerializeToString()
