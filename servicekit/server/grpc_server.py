"""Runs a gRPC server: with health and reflection, NOT_SERVING until told otherwise, drained at the end."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from servicekit.credentials.server_identity import ServerIdentity
from servicekit.grpc.error_mapping import Handler, mapped_aio
from servicekit.grpc.gate import TOLD_S, Gate, Quiet
from servicekit.grpc.limits import STOPPING, STRAGGLERS_S
from servicekit.grpc.open_streams import OpenStreams
from servicekit.server.health_states import HEALTH_SERVICE, NOT_SERVING, SERVING
from servicekit.server.own_connections import end_connections
from servicekit.server.server_options import merged

_POLL_S: Final = 0.005

Register: TypeAlias = Callable[[Any, Any], None]
"""A generated function that adds a servicer's methods to a server."""


class _Registrar:
    """Registers handlers in place of a server: generated code passes the methods twice, and once is enough."""

    def __init__(self, add_methods: Callable[[str, Mapping[str, Handler]], None]) -> None:
        self.add_registered_method_handlers = add_methods

    def add_generic_rpc_handlers(self, _: object) -> None:
        """Ignore generic handlers: the methods come by name."""


class GrpcServer(ABC):
    """The common part of all kinds of servers: adding services."""

    _grpc: Any
    _port: int
    _identity: ServerIdentity | None = None

    def add(self, register: Register, servicer: object) -> None:
        """Add a service by the function that was generated for it."""
        register(servicer, _Registrar(self.add_methods))

    def add_methods(self, service: str, methods: Mapping[str, Handler]) -> None:
        """Add methods to a service."""
        self._register(service, {name: self._wrapped(one, f"/{service}/{name}") for name, one in methods.items()})

    @abstractmethod
    def _register(self, service: str, handlers: dict[str, Handler]) -> None:
        """Serve the methods of the handlers."""

    def _listen(self, address: str, identity: ServerIdentity | None) -> int:
        if identity:
            port: int = self._grpc.add_secure_port(address, identity.credentials)
            identity.begin(address, port)
        else:
            port = self._grpc.add_insecure_port(address)
        self._identity = identity
        self._port = port
        return port

    def _end_identity(self) -> None:
        if self._identity:
            self._identity.end()

    @abstractmethod
    def _wrapped(self, handler: Handler, method: str) -> Handler:
        """Return the handler with the server's wrappers."""


class AioServer(GrpcServer):
    """An asyncio server with health, reflection, error mapping and limits of streams.

    Args:
        services: Full names of the services that will be added.
        options: gRPC channel arguments beyond the defaults.
        streams: The open ones, and how many there may be.
    """

    def __init__(
        self,
        services: Sequence[str],
        *,
        options: Sequence[tuple[str, int]] = (),
        streams: OpenStreams | None = None,
    ) -> None:
        self._grpc = aio.server(options=merged(options))
        self._names = ["", *services]
        self._gate = Gate()
        self._streams = streams or OpenStreams()
        self._health = health.aio.HealthServicer()
        self._told: set[asyncio.Task[None]] = set()
        self.add(health_pb2_grpc.add_HealthServicer_to_server, self._health)
        reflected = reflection.aio.ReflectionServicer([*services, HEALTH_SERVICE, reflection.SERVICE_NAME])
        self.add(reflection_pb2_grpc.add_ServerReflectionServicer_to_server, reflected)

    def _wrapped(self, handler: Handler, method: str) -> Handler:
        return mapped_aio(handler, method, self._gate, self._streams)

    def _register(self, service: str, handlers: dict[str, Handler]) -> None:
        self._grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        self._grpc.add_registered_method_handlers(service, handlers)

    async def start(self, address: str, identity: ServerIdentity | None = None) -> int:
        """Listen, NOT_SERVING, and return the port; RuntimeError when the address is taken."""
        await self.set_serving(serving=False)
        port = self._listen(address, identity)
        await self._grpc.start()
        self._streams.begin()
        return port

    async def set_serving(self, *, serving: bool) -> None:
        """Set the health of every service."""
        for name in self._names:
            await self._health.set(name, SERVING if serving else NOT_SERVING)

    def report(self, part: str, *, serving: bool) -> None:
        """Set the health of one part under its own name, without waiting; the services' state stays."""
        told = asyncio.get_running_loop().create_task(self._health.set(part, SERVING if serving else NOT_SERVING))
        self._told.add(told)
        told.add_done_callback(self._told.discard)

    def _running(self) -> int:
        """Return how many calls are answered; one without its message is waited for later."""
        return self._gate.running() - len(self._streams.messages)

    def _expected(self) -> int:
        """Return how many calls are answered or about to come: a caller that has been answered may be slow."""
        return self._running() + self._gate.awaited()

    async def drain(self, grace_s: float, *, lame_duck_s: float = 0) -> None:
        """Report NOT_SERVING for good, then refuse new calls, and let running ones finish.

        Args:
            grace_s: Seconds after which they are cancelled.
            lame_duck_s: Seconds between the word and the first refusal.
        """
        self._gate.watch()
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(lame_duck_s)
        if grace_s:
            self._gate.shut()
        if not grace_s or await Quiet(lambda: self._gate.arrivals, self._expected).wait_aio():
            await self._stop(grace_s)
        else:
            await self._refuse(grace_s)
        await self._streams.end()
        await asyncio.to_thread(self._end_identity)

    async def _stop(self, grace_s: float) -> None:
        """Have gRPC's core tell callers, and end when the last call has."""
        stopping = asyncio.ensure_future(self._grpc.stop(grace_s))
        if grace_s:
            await asyncio.wait([stopping], timeout=TOLD_S)
        self._gate.open()
        self._streams.dismiss()
        await asyncio.wait([stopping], timeout=STRAGGLERS_S)
        self._streams.messages.end(STOPPING)
        await stopping

    async def _refuse(self, grace_s: float) -> None:
        """Answer what has come, refuse what comes, and end the connections.

        As long as calls come, gRPC's core would cancel those of the moment in which it begins to end.
        """
        until = time.monotonic() + grace_s
        self._gate.refuse()
        self._streams.dismiss()
        while self._running() + self._gate.streams and time.monotonic() < until:  # noqa: ASYNC110  # it waits for nothing to happen
            await asyncio.sleep(_POLL_S)
        self._streams.messages.end(STOPPING)
        await asyncio.sleep(TOLD_S)  # the last replies are on their way
        end_connections(self._port)
        await self._grpc.stop(None)  # without a wait between the two, in which callers could connect anew
