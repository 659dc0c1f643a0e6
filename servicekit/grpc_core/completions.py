"""Takes the events of gRPC's core: the arrivals of calls, and the ends of their operations.

It speaks to gRPC's core by `grpc._cython.cygrpc`, as gRPC's own Python layer does. That module is private to gRPC and
may change with any release, so `grpcio` is pinned, and `tests/servicekit/grpc_core/test_direct_unary_calls.py` and
`test_bulkheads.py` tell what is relied on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import structlog
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # the stubs lack it
from grpc._server import _ServerStage

PATIENCE: Final = 4
"""Looks at a call that waits for its caller's message; at the last one it is ended."""

logger = structlog.get_logger(__name__)


class Completions:
    """A queue of events of one server, and the threads that take them.

    Args:
        server: Its core, lock and stage, as gRPC's own layer knows them; not started yet.
        threads: Events taken at once.
        name: Of the threads, before their numbers.
    """

    def __init__(self, server: Any, threads: int, name: str) -> None:
        self._state: Any = server._state  # noqa: SLF001  # its core, lock and stage
        self.interceptors = self._state.interceptor_pipeline
        self.arrivals = 0
        self._queue = cygrpc.CompletionQueue()
        self._state.server.register_completion_queue(self._queue)
        self._places: list[Place] = []
        self._due: set[object] = set()
        """Places that wait for a call, and calls that wait for an event."""
        self._held: list[Callable[[], None]] | None = None
        self._threads = [threading.Thread(target=self._serve, name=f"{name}-{n}", daemon=True) for n in range(threads)]

    def add(self, method: str, arrived: Callable[[Any], None], *, ahead: int) -> None:
        """Pass each call of a method, named in full, to a function; register before the server starts.

        Args:
            method: Its full name.
            arrived: Is given the event; it waits for nothing.
            ahead: Calls that are taken from gRPC's core before a thread is free.
        """
        self._state.server.register_method(method)
        self._places += [Place(self, method, arrived) for _ in range(ahead)]

    def begin(self) -> None:
        """Take calls from now on, until the server is stopped; it has just been started."""
        self._due.update(self._places)
        for place in self._places:
            self.request(place)
        for thread in self._threads if self._places else ():
            thread.start()

    def request(self, place: Place) -> None:
        """Request a call of the place's method from gRPC's core, unless the server is about to end."""
        with self._state.lock:  # as gRPC's own layer: the server cannot end in between
            if self._state.stage is _ServerStage.STARTED:
                self._state.server.request_registered_call(self._queue, self._queue, place.method, place)
                return
        self.settle(place)

    def expect(self, one: object) -> None:
        """Count an event that is due."""
        self._due.add(one)

    def settle(self, one: object) -> None:
        """Count off an event; after the last one, the threads end."""
        self._due.discard(one)
        if not self._due:
            self._queue.shutdown()

    def held(self, go_on: Callable[[], None]) -> bool:
        """Return whether arriving calls are kept waiting until `release`."""
        held = self._held
        if held is None:
            return False
        held.append(go_on)
        if self._held is not held:  # released meanwhile
            self._go_on(held)
        return True

    def hold(self) -> None:
        """Keep arriving calls waiting: their callers make no further ones meanwhile."""
        self._held = []

    def release(self) -> None:
        """Let all waiting calls go on."""
        held, self._held = self._held, None
        self._go_on(held or [])

    def _go_on(self, held: list[Callable[[], None]]) -> None:
        while held:
            try:
                go_on = held.pop()
            except IndexError:
                return  # another thread took it
            go_on()

    def running(self) -> int:
        """Return the number of calls answered here that have their message and have not ended."""
        return sum(1 for one in list(self._due) if getattr(one, "has_request", False))

    def look(self) -> None:
        """Check the calls that wait for their callers."""
        for one in list(self._due):
            if (look := getattr(one, "look", None)) is not None:
                look()

    def _serve(self) -> None:
        while (event := self._queue.poll()).completion_type != cygrpc.CompletionType.queue_shutdown:
            try:
                event.tag(event)
            except BaseException:  # the thread is for all calls
                logger.exception("rpc.defect")
            del event  # else an idle thread would keep its last call in memory


class Place:
    """A place for one call of a method: the tag of the event of its arrival."""

    __slots__ = ("_arrived", "_completions", "method")

    def __init__(self, completions: Completions, method: str, arrived: Callable[[Any], None]) -> None:
        self._completions = completions
        self._arrived = arrived
        self.method = method

    def __call__(self, event: Any) -> None:
        """Pass the call on, and request the next one."""
        completions = self._completions
        if not event.success:  # the server is about to end
            completions.settle(self)
            return
        completions.arrivals += 1
        self._arrived(event)
        completions.request(self)
