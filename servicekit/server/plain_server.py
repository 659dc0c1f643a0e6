"""The thread server that rests on what gRPC promises, for a release of grpcio that the direct one does not know.

A call holds a thread from its arrival on, also while its message has not come: no handler runs before, so that nobody
could end it. There are many threads, which cost little while they wait, and how many handlers run is limited apart.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from servicekit.credentials.server_identity import ServerIdentity
from servicekit.grpc.error_mapping import Handler, mapped
from servicekit.grpc.gate import TOLD_S, Quiet
from servicekit.server.grpc_server import Register
from servicekit.server.health_states import HEALTH_SERVICE, NOT_SERVING, SERVING
from servicekit.server.lane import Doors, Lane
from servicekit.server.plain_health import PlainHealth
from servicekit.server.plain_reflection import PlainReflection
from servicekit.server.server_options import merged
from servicekit.server.threaded import STREAMS_WAITING, ThreadedServer

OPEN: Final = 1_000
"""Calls of all kinds that hold a thread, nearly all of them waiting; further ones wait without one."""


class PlainServer(ThreadedServer):
    """A `ThreadedServer` by `grpc.server`.

    Args:
        services: Full names of the services that will be added.
        threads: Calls of one request and one reply handled at once; a quarter as many of several replies.
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
        super().__init__(services, decorators=decorators, error_metadata=error_metadata)
        self._calls = ThreadPoolExecutor(OPEN, thread_name_prefix="call")
        self._grpc = grpc.server(self._calls, options=merged(options))
        self._doors = Doors()
        self._lanes: list[Lane] = []
        self._lane_of: dict[str, Lane] = {}
        self._unary = self._lane("rpc", running=threads, waiting=None)
        self._streams = self.bulkhead("streams", running=max(1, threads // 4), waiting=STREAMS_WAITING)
        self._health = PlainHealth()
        # Not by `add_methods`: they are answered however many calls of other kinds wait.
        methods = {name: mapped(one, f"/{HEALTH_SERVICE}/{name}") for name, one in self._health.methods().items()}
        self._grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(HEALTH_SERVICE, methods),))
        self._reflection = PlainReflection([*services, HEALTH_SERVICE, reflection.SERVICE_NAME])
        add_reflection: Register = reflection_pb2_grpc.add_ServerReflectionServicer_to_server
        add_reflection(self._reflection, self._grpc)
        self.set_serving(serving=False)

    def bulkhead(self, name: str, *, running: int, waiting: int, methods: Sequence[str] = ()) -> Lane:
        """Give calls of their own threads to some methods, named in full, that are added afterwards."""
        lane = self._lane(name, running=running, waiting=waiting)
        self._lane_of.update(dict.fromkeys(methods, lane))
        return lane

    def _lane(self, name: str, *, running: int, waiting: int | None) -> Lane:
        lane = Lane(name, self._doors, running=running, waiting=waiting)
        self._lanes.append(lane)
        return lane

    def _register(self, service: str, handlers: dict[str, Handler]) -> None:
        limited = {name: self._limited(one, f"/{service}/{name}") for name, one in handlers.items()}
        self._grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, limited),))

    def _limited(self, handler: Handler, method: str) -> Handler:
        lane = self._lane_of.get(method) or (self._unary if handler.unary_unary else self._streams)
        return lane.limited(handler, method)

    def start(self, address: str, identity: ServerIdentity | None = None) -> int:
        """Listen and return the port; RuntimeError when the address is taken."""
        port = self._listen(address, identity)
        self._grpc.start()
        return port

    def set_serving(self, *, serving: bool) -> None:
        """Tell health of every service."""
        for name in self._names:
            self._health.set(name, SERVING if serving else NOT_SERVING)

    def report(self, part: str, *, serving: bool) -> None:
        """Tell health of one part under a name of its own; the services' state stays."""
        self._health.set(part, SERVING if serving else NOT_SERVING)

    def drain(self, grace_s: float, *, lame_duck_s: float = 0) -> None:
        """Say NOT_SERVING for good, then refuse new calls, and let running ones finish.

        Args:
            grace_s: Seconds after which they are cancelled.
            lame_duck_s: Seconds between the word and the first refusal.
        """
        self._health.end()
        time.sleep(lame_duck_s)
        if grace_s:
            self._doors.shut()
            Quiet(lambda: self._doors.arrivals, self._doors.running).wait()
        stopped = self._grpc.stop(grace_s)
        if grace_s:
            stopped.wait(TOLD_S)
        self._doors.open()
        self._health.dismiss()
        self._reflection.dismiss()
        stopped.wait()
        self._calls.shutdown(wait=False)
        for lane in self._lanes:
            lane.close()
        self._end_identity()
