"""The life of a gRPC server: built with health and reflection, NOT_SERVING until told otherwise, drained at the end."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeAlias

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from servicekit.error_mapping import Handler, mapped, mapped_aio
from servicekit.unary_calls import UnaryCalls

SERVING: Final = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
HEALTH_SERVICE: Final = "grpc.health.v1.Health"

OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    # Off, so that a second server on the same port fails instead of silently taking half of the calls.
    ("grpc.so_reuseport", 0),
    # Clients ping every 30 s to notice dead peers; gRPC's default would answer that with GOAWAY.
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

# Calls that wait for a thread are for load shedding to refuse, with a reason: by default gRPC's core cancels some of a
# thousand.
_WAITING: Final = (
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
)

# By default health sends to watchers under its lock, and waits for the thread that ends calls, which wants that lock
# when a watcher leaves: the server stands still for ever. Here each watcher waits in a thread of its own.
_WATCHES: Final = ThreadPoolExecutor(64, thread_name_prefix="health-watch")


Register: TypeAlias = Callable[[Any, Any], None]
"""A generated function that adds a servicer's methods to a server."""


class _Registrar:
    """Stands for a server before generated code, which hands the methods over twice: once is enough."""

    def __init__(self, add_methods: Callable[[str, Mapping[str, Handler]], None]) -> None:
        self.add_registered_method_handlers = add_methods

    def add_generic_rpc_handlers(self, _: object) -> None:
        """Wait for the methods by name."""


class _Server(ABC):
    """What both kinds of server have in common: how services are added."""

    _grpc: Any

    def add(self, register: Register, servicer: object) -> None:
        """Add a service by the function that was generated for it."""
        register(servicer, _Registrar(self.add_methods))

    def add_methods(self, service: str, methods: Mapping[str, Handler]) -> None:
        """Add methods to a service."""
        self._register(service, {name: self._wrapped(one, f"/{service}/{name}") for name, one in methods.items()})

    def _register(self, service: str, handlers: dict[str, Handler]) -> None:
        self._grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        self._grpc.add_registered_method_handlers(service, handlers)

    def _listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        if credentials:
            port: int = self._grpc.add_secure_port(address, credentials)
        else:
            port = self._grpc.add_insecure_port(address)
        return port

    @abstractmethod
    def _wrapped(self, handler: Handler, method: str) -> Handler:
        """Return the handler as it is served."""


class AioServer(_Server):
    """An asyncio server with health, reflection and error mapping.

    Args:
        services: Full names of the services that will be added.
        options: gRPC channel arguments beyond the defaults.
    """

    def __init__(self, services: Sequence[str], *, options: Sequence[tuple[str, int]] = ()) -> None:
        self._grpc = aio.server(options=_merged(options))
        self._names = ["", *services]
        self._health = health.aio.HealthServicer()
        self._told: set[asyncio.Task[None]] = set()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        reflection.enable_server_reflection([*services, HEALTH_SERVICE, reflection.SERVICE_NAME], self._grpc)

    def _wrapped(self, handler: Handler, method: str) -> Handler:
        return mapped_aio(handler, method)

    async def start(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen, NOT_SERVING, and return the port; RuntimeError when the address is taken."""
        await self.set_serving(serving=False)
        port = self._listen(address, credentials)
        await self._grpc.start()
        return port

    async def set_serving(self, *, serving: bool) -> None:
        """Tell health of every service."""
        for name in self._names:
            await self._health.set(name, SERVING if serving else NOT_SERVING)

    def report(self, part: str, *, serving: bool) -> None:
        """Tell health of one part under a name of its own, soon and without a wait; the services' state stays."""
        told = asyncio.get_running_loop().create_task(self._health.set(part, SERVING if serving else NOT_SERVING))
        self._told.add(told)
        told.add_done_callback(self._told.discard)

    async def drain(self, grace_s: float) -> None:
        """Say NOT_SERVING for good, refuse new calls, and let running ones finish for up to `grace_s` seconds."""
        await self._health.enter_graceful_shutdown()
        await self._grpc.stop(grace_s)


class ThreadServer(_Server):
    """A server of threads with health, reflection and error mapping.

    Args:
        services: Full names of the services that will be added.
        threads: Calls of one request and one reply handled at once, and as many others.
        options: gRPC channel arguments beyond the defaults; later ones win.
        decorators: Put around each method's handler, inside of error mapping, the first one innermost.
        error_metadata: Trailing metadata of every error.
    """

    def __init__(
        self,
        services: Sequence[str],
        *,
        threads: int,
        options: Sequence[tuple[str, int]] = (),
        decorators: Sequence[Callable[[Handler], Handler]] = (),
        error_metadata: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="stream")
        self._grpc = grpc.server(self._pool, options=_merged((*_WAITING, *options)))
        self._unary = UnaryCalls(self._grpc, threads)
        self._decorators = decorators
        self._map_errors = partial(mapped, metadata=error_metadata)
        self._names = ["", *services]
        self._health = health.HealthServicer(experimental_non_blocking=False, experimental_thread_pool=_WATCHES)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        reflection.enable_server_reflection([*services, HEALTH_SERVICE, reflection.SERVICE_NAME], self._grpc)
        self.set_serving(serving=False)

    def _wrapped(self, handler: Handler, method: str) -> Handler:
        for decorate in self._decorators:
            handler = decorate(handler)
        return self._map_errors(handler, method)

    def _register(self, service: str, handlers: dict[str, Handler]) -> None:
        unary = {name: handler for name, handler in handlers.items() if handler.unary_unary}
        for name, handler in unary.items():
            self._unary.add(f"/{service}/{name}", handler)
        super()._register(service, {name: one for name, one in handlers.items() if name not in unary})

    def start(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen and return the port; RuntimeError when the address is taken."""
        port = self._listen(address, credentials)
        self._grpc.start()
        self._unary.begin()
        return port

    def set_serving(self, *, serving: bool) -> None:
        """Tell health of every service."""
        for name in self._names:
            self._health.set(name, SERVING if serving else NOT_SERVING)

    def drain(self, grace_s: float) -> None:
        """Say NOT_SERVING for good, refuse new calls, and let running ones finish for up to `grace_s` seconds."""
        self._health.enter_graceful_shutdown()
        self._grpc.stop(grace_s).wait()
        self._pool.shutdown(wait=False)


def _merged(options: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the defaults with these in their place: of two values of one argument, gRPC would take the first."""
    return list({**dict(OPTIONS), **dict(options)}.items())
