"""What both servers of threads promise: kinds of calls apart, decorators, error mapping, a drain."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from servicekit.credentials.server_identity import ServerIdentity
from servicekit.grpc.error_mapping import Handler, mapped
from servicekit.server.grpc_server import GrpcServer

STREAMS_WAITING: Final = 64
"""Calls with several replies that wait for a thread."""


class ThreadedServer(GrpcServer):
    """A server of threads with health, reflection, error mapping, and bulkheads between kinds of calls.

    Args:
        services: Full names of the services that will be added.
        decorators: Put around each method's handler, inside of error mapping, the first one innermost.
        error_metadata: Trailing metadata of every error.
    """

    def __init__(
        self,
        services: Sequence[str],
        *,
        decorators: Sequence[Callable[[Handler], Handler]],
        error_metadata: Sequence[tuple[str, str]],
    ) -> None:
        self._names = ["", *services]
        self._decorators = decorators
        self._map_errors = partial(mapped, metadata=error_metadata)

    @abstractmethod
    def bulkhead(self, name: str, *, running: int, waiting: int, methods: Sequence[str] = ()) -> object:
        """Give calls of their own threads to some methods, named in full, that are added afterwards."""

    @abstractmethod
    def start(self, address: str, identity: ServerIdentity | None = None) -> int:
        """Listen and return the port; RuntimeError when the address is taken."""

    @abstractmethod
    def set_serving(self, *, serving: bool) -> None:
        """Tell health of every service."""

    @abstractmethod
    def report(self, part: str, *, serving: bool) -> None:
        """Tell health of one part under a name of its own; the services' state stays."""

    @abstractmethod
    def drain(self, grace_s: float, *, lame_duck_s: float = 0) -> None:
        """Say NOT_SERVING for good, then refuse new calls, and let running ones finish.

        Args:
            grace_s: Seconds after which they are cancelled.
            lame_duck_s: Seconds between the word and the first refusal.
        """

    def _wrapped(self, handler: Handler, method: str) -> Handler:
        for decorate in self._decorators:
            handler = decorate(handler)
        return self._map_errors(handler, method)
