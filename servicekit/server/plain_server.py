"""The thread server that rests on what gRPC promises, for a release of grpcio that the direct one does not know.

A call holds a thread from its arrival on, also while its message has not come: no handler runs before, so that nobody
could end it. There are many threads, which cost little while they wait, and how many handlers run is limited apart.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Unpack

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from servicekit.grpc.error_mapping import Handler, mapped
from servicekit.server.grpc_server import Register
from servicekit.server.health_states import HEALTH_SERVICE
from servicekit.server.lane import Doors, Lane
from servicekit.server.plain_health import PlainHealth
from servicekit.server.plain_reflection import PlainReflection
from servicekit.server.threaded import STREAMS_WAITING, Choices, Stopped, ThreadedServer

OPEN: Final = 1_000
"""Calls of all kinds that hold a thread, nearly all of them waiting; further ones wait without one."""


class PlainServer(ThreadedServer):
    """A `ThreadedServer` by `grpc.server`.

    Args:
        services: Full names of the services that will be added.
        threads: Calls of one request and one reply handled at once; a quarter as many of several replies.
        choices: What the program chooses.
    """

    _health: PlainHealth

    def __init__(self, services: Sequence[str], *, threads: int, **choices: Unpack[Choices]) -> None:
        self._calls = ThreadPoolExecutor(OPEN, thread_name_prefix="call")
        super().__init__(services, self._calls, choices)
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

    def _hold(self) -> None:
        self._doors.shut()

    def _arrivals(self) -> int:
        return self._doors.arrivals

    def _running(self) -> int:
        return self._doors.running()

    def _release(self) -> None:
        self._doors.open()

    def _end(self, stopped: Stopped) -> None:
        self._health.dismiss()
        self._reflection.dismiss()
        stopped.wait()
        self._calls.shutdown(wait=False)
        for lane in self._lanes:
            lane.close()
