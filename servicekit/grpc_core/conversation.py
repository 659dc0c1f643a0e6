"""Answers calls without a thread each: every step is an event, and nothing waits.

However many of them are open and silent, they hold nothing but memory, and no more than a set number may be open.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import grpc
import structlog
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # the stubs lack it

from servicekit.grpc.errors import ServiceError, to_status
from servicekit.grpc.limits import SILENT, STOPPING, crowded
from servicekit.grpc_core.completions import PATIENCE, Completions

AHEAD: Final = 32
"""Calls of one method that are taken from gRPC's core ahead."""
_NO_FLAGS: Final = 0

logger = structlog.get_logger(__name__)


class Conversations:
    """The open calls of some methods of a server, with the one thread that takes their events.

    Args:
        server: Not started yet.
        name: Of the thread, and of the kind of call for who is refused.
        limit: Calls that may be open.
    """

    def __init__(self, server: grpc.Server, name: str, *, limit: int) -> None:
        self.completions = Completions(server, 1, name)
        self._name = name
        self._limit = limit
        self.open: set[Conversation] = set()

    def add(self, method: str, begin: Callable[[Conversation], None]) -> None:
        """Start a conversation for each call of a method, named in full; register before the server starts."""

        def arrived(event: Any) -> None:
            conversation = Conversation(self, event)
            conversation.begin()
            if len(self.open) > self._limit:
                conversation.fail(crowded(self._name))
            elif not self.completions.held(lambda: begin(conversation)):
                begin(conversation)

        self.completions.add(method, arrived, ahead=AHEAD)

    def running(self) -> int:
        """Return the number of calls being answered."""
        return sum(one.is_busy for one in list(self.open))

    def look(self) -> None:
        """Check the calls that wait for their callers."""
        for one in list(self.open):
            one.look()

    def dismiss(self) -> None:
        """End calls that wait for their caller or for news, as the server is about to end."""
        for one in list(self.open):
            one.dismiss()


class Conversation:
    """One call, whose steps are events.

    Args:
        conversations: Where it is open.
        event: Its arrival.
    """

    def __init__(self, conversations: Conversations, event: Any) -> None:
        self.event = event
        self.is_busy = False
        """Whether it ends by itself."""
        self._conversations = conversations
        self._lock = threading.Lock()
        self._is_open, self._has_begun = True, False
        self._looks = 0
        self._is_listening = False
        self._at_end: Callable[[], None] | None = None

    @property
    def is_open(self) -> bool:
        """Return whether the caller still listens, and the call has not been ended."""
        return self._is_open

    def begin(self) -> None:
        """Learn when the caller leaves."""
        self._conversations.open.add(self)
        with self._lock:
            self._start((cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),), self._closed)

    def at_end(self, told: Callable[[], None]) -> None:
        """Register a function to call once, when the call ends in any way."""
        self._at_end = told
        if self not in self._conversations.open:
            told()

    def receive(self, then: Callable[[bytes | None], None]) -> None:
        """Receive the next message, None at the end of them; a caller who is silent for too long is ended."""

        def received(event: Any) -> None:
            self._is_listening = False
            then(event.batch_operations[0].message())

        with self._lock:
            if self._is_open:
                self._looks, self._is_listening = 0, True
                self._start((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), received)

    def send(self, data: bytes, then: Callable[[], None]) -> bool:
        """Send a message, and go on when the next one can be sent; return False if the caller is gone."""
        with self._lock:
            if not self._is_open:
                return False
            operations = (*self._beginning(), cygrpc.SendMessageOperation(data, _NO_FLAGS))
            return self._start(operations, lambda _: then())

    def send_headers(self, metadata: Any) -> bool:
        """Send headers ahead of the first message; return False if the caller is gone, or they have been sent."""
        with self._lock:
            if not self._is_open or self._has_begun:
                return False
            self._has_begun = True
            return self._start((cygrpc.SendInitialMetadataOperation(metadata, _NO_FLAGS),), lambda _: None)

    def fail(self, error: ServiceError) -> None:
        """End the call with an error."""
        status = to_status(error)
        self.finish(status.code, status.details, status.trailing_metadata)

    def finish(self, code: grpc.StatusCode = grpc.StatusCode.OK, details: str = "", trailing: Any = None) -> None:
        """End the call, unless it has ended."""
        with self._lock:
            if not self._is_open:
                return
            self._is_open = False
            status = cygrpc.SendStatusFromServerOperation(trailing, code.value[0], details.encode(), _NO_FLAGS)
            self._start((*self._beginning(), status), lambda _: None)

    def look(self) -> None:
        """End the call if its caller has kept it waiting for too long."""
        self._looks += 1
        if self._is_listening and self._looks >= PATIENCE:
            self.fail(SILENT)

    def dismiss(self) -> None:
        """End the call unless it ends by itself."""
        if not self.is_busy:
            self.fail(STOPPING)

    def _beginning(self) -> tuple[Any, ...]:
        if self._has_begun:
            return ()
        self._has_begun = True
        return (cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),)

    def _closed(self, _: Any) -> None:
        with self._lock:
            self._is_open = False
        self._conversations.open.discard(self)
        if self._at_end:
            self._at_end()

    def _start(self, operations: tuple[Any, ...], then: Callable[[Any], None]) -> bool:
        """Start operations of gRPC's core, and go on when they are done."""
        completions = self._conversations.completions
        step = _Step(self, then)
        completions.expect(step)
        try:
            self.event.call.start_server_batch(operations, step)
        except Exception:  # what a handler left cannot be sent
            completions.settle(step)
            self.event.call.cancel()
            logger.exception("rpc.defect", method=self.event.call_details.method)
            return False
        return True

    def settle(self, step: object) -> None:
        """Record that a step is done."""
        self._conversations.completions.settle(step)


class _Step:
    """The continuation after an operation: the tag of its event."""

    __slots__ = ("_conversation", "_then")

    def __init__(self, conversation: Conversation, then: Callable[[Any], None]) -> None:
        self._conversation = conversation
        self._then = then

    def __call__(self, event: Any) -> None:
        try:
            self._then(event)
        finally:
            self._conversation.settle(self)
