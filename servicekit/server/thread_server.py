"""The thread server that speaks to gRPC's core itself, which takes the least processor time."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Unpack

from grpc_reflection.v1alpha import reflection

from servicekit.grpc.error_mapping import Handler
from servicekit.grpc.limits import FIRST_MESSAGE_S, STRAGGLERS_S
from servicekit.grpc_core.bulkhead import Bulkhead
from servicekit.grpc_core.completions import PATIENCE
from servicekit.grpc_core.direct_unary_calls import UnaryCalls
from servicekit.server.health_service import HealthService
from servicekit.server.health_states import HEALTH_SERVICE
from servicekit.server.reflection_service import ReflectionService
from servicekit.server.threaded import STREAMS_WAITING, Choices, Stopped, ThreadedServer


class ThreadServer(ThreadedServer):
    """A `ThreadedServer` whose calls are taken from gRPC's core.

    Args:
        services: Full names of the services that will be added.
        threads: Calls of one request and one reply handled at once; a quarter as many of several replies.
        first_message_s: Seconds in which a caller must send the message that its call waits for.
        choices: What the program chooses.
    """

    _health: HealthService

    def __init__(
        self,
        services: Sequence[str],
        *,
        threads: int,
        first_message_s: float = FIRST_MESSAGE_S,
        **choices: Unpack[Choices],
    ) -> None:
        # gRPC's own layer is left with calls of unknown methods, for which it needs no thread.
        super().__init__(services, ThreadPoolExecutor(1, thread_name_prefix="unknown"), choices)
        self._unary = UnaryCalls(self._grpc, threads)
        self._health = HealthService(self._grpc)
        self._reflection = ReflectionService(self._grpc, [*services, HEALTH_SERVICE, reflection.SERVICE_NAME])
        self._bulkheads: list[Bulkhead] = []
        self._bulkhead_of: dict[str, Bulkhead] = {}
        self._streams = self.bulkhead("streams", running=max(1, threads // 4), waiting=STREAMS_WAITING)
        self._first_message_s = first_message_s
        self._ending = threading.Event()
        self._looking = threading.Thread(target=self._look, name="patience", daemon=True)
        self.set_serving(serving=False)

    def bulkhead(self, name: str, *, running: int, waiting: int, methods: Sequence[str] = ()) -> Bulkhead:
        """Give calls of their own threads to some methods, named in full, that are added afterwards."""
        bulkhead = Bulkhead(self._grpc, name, running=running, waiting=waiting)
        self._bulkheads.append(bulkhead)
        self._bulkhead_of.update(dict.fromkeys(methods, bulkhead))
        return bulkhead

    def _register(self, service: str, handlers: dict[str, Handler]) -> None:
        for name, handler in handlers.items():
            method = f"/{service}/{name}"
            (self._bulkhead_of.get(method) or (self._unary if handler.unary_unary else self._streams)).add(
                method, handler
            )

    def _begin(self) -> None:
        self._unary.begin()
        for part in self._apart():
            part.begin()
        self._looking.start()

    def _look(self) -> None:
        while not self._ending.wait(self._first_message_s / PATIENCE):
            self._look_once()

    def _look_once(self) -> None:
        self._unary.completions.look()
        for part in self._apart():
            part.conversations.look()

    def _hold(self) -> None:
        self._unary.completions.hold()
        for part in self._apart():
            part.conversations.completions.hold()

    def _arrivals(self) -> int:
        apart = sum(part.conversations.completions.arrivals for part in self._apart())
        return self._unary.completions.arrivals + apart

    def _running(self) -> int:
        return self._unary.completions.running() + sum(part.conversations.running() for part in self._apart())

    def _release(self) -> None:
        self._unary.completions.release()
        for part in self._apart():
            part.conversations.completions.release()

    def _apart(self) -> list[HealthService | ReflectionService | Bulkhead]:
        """Return what answers calls apart from the pages."""
        return [self._health, self._reflection, *self._bulkheads]

    def _end(self, stopped: Stopped) -> None:
        # They wait for news, or for a question that is not asked.
        self._health.conversations.dismiss()
        self._reflection.conversations.dismiss()
        if not stopped.wait(STRAGGLERS_S):
            for _ in range(PATIENCE):
                self._look_once()
        stopped.wait()
        self._ending.set()
