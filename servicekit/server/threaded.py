"""Defines the common promises of both thread servers: bulkheads, decorators, error mapping, health, drain."""

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, Protocol, TypedDict

import grpc

from servicekit.credentials.server_identity import ServerIdentity
from servicekit.grpc.error_mapping import Handler, mapped
from servicekit.grpc.gate import TOLD_S, Quiet
from servicekit.server.grpc_server import GrpcServer
from servicekit.server.health_states import NOT_SERVING, SERVING
from servicekit.server.server_options import merged

STREAMS_WAITING: Final = 64
"""Calls with several replies that wait for a thread."""


class Health(Protocol):
    """Says which services serve, and tells watchers of changes."""

    def set(self, service: str, state: int) -> None:
        """Say from now on that a service is in this state, unless it was the final word."""

    def end(self) -> None:
        """Say NOT_SERVING of every service for good."""


class Stopped(Protocol):
    """Tells that gRPC's core has ended."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the core's end, and return whether it has ended."""


class Choices(TypedDict, total=False):
    """The options of a thread server that a program may choose.

    Attributes:
        options: gRPC channel arguments beyond the defaults; later ones win.
        decorators: Put around each method's handler, inside of error mapping, the first one innermost.
        error_metadata: Trailing metadata of every error.
    """

    options: Sequence[tuple[str, int]]
    decorators: Sequence[Callable[[Handler], Handler]]
    error_metadata: Sequence[tuple[str, str]]


class ThreadedServer(GrpcServer):
    """A thread server with health, reflection, error mapping, and bulkheads between kinds of calls.

    Args:
        services: Full names of the services that will be added.
        pool: Threads of gRPC's own layer.
        choices: What the program chose.
    """

    _grpc: grpc.Server
    _health: Health

    def __init__(self, services: Sequence[str], pool: ThreadPoolExecutor, choices: Choices) -> None:
        self._names = ["", *services]
        self._decorators = choices.get("decorators", ())
        self._map_errors = partial(mapped, metadata=choices.get("error_metadata", ()))
        self._grpc = grpc.server(pool, options=merged(choices.get("options", ())))

    @abstractmethod
    def bulkhead(self, name: str, *, running: int, waiting: int, methods: Sequence[str] = ()) -> object:
        """Answer some methods, named in full, by threads of their own; call before adding them."""

    def start(self, address: str, identity: ServerIdentity | None = None) -> int:
        """Listen and return the port; RuntimeError when the address is taken."""
        port = self._listen(address, identity)
        self._grpc.start()
        self._begin()
        return port

    def set_serving(self, *, serving: bool) -> None:
        """Set the health of every service."""
        for name in self._names:
            self._health.set(name, SERVING if serving else NOT_SERVING)

    def report(self, part: str, *, serving: bool) -> None:
        """Set the health of one part under a name of its own; the services' state stays."""
        self._health.set(part, SERVING if serving else NOT_SERVING)

    def drain(self, grace_s: float, *, lame_duck_s: float = 0) -> None:
        """Report NOT_SERVING for good, then refuse new calls, and let running ones finish.

        Args:
            grace_s: Seconds after which they are cancelled.
            lame_duck_s: Seconds between the word and the first refusal.
        """
        self._health.end()
        time.sleep(lame_duck_s)
        if grace_s:
            self._hold()
            Quiet(self._arrivals, self._running).wait()
        stopped = self._grpc.stop(grace_s)
        if grace_s:
            stopped.wait(TOLD_S)
        self._release()
        self._end(stopped)
        self._end_identity()

    def _wrapped(self, handler: Handler, method: str) -> Handler:
        for decorate in self._decorators:
            handler = decorate(handler)
        return self._map_errors(handler, method)

    def _begin(self) -> None:
        """Do what is to do once gRPC's core has started."""

    @abstractmethod
    def _hold(self) -> None:
        """Keep calls that come from now on waiting."""

    @abstractmethod
    def _arrivals(self) -> int:
        """Return how many calls have come, ever."""

    @abstractmethod
    def _running(self) -> int:
        """Return how many calls have passed and not ended."""

    @abstractmethod
    def _release(self) -> None:
        """Let those pass that wait."""

    @abstractmethod
    def _end(self, stopped: Stopped) -> None:
        """End the calls that wait for news or for their callers, wait for the end of all others, and end the rest."""
