"""The thread server that speaks to gRPC's core itself, which takes the least processor time."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import grpc
from grpc_reflection.v1alpha import reflection

from servicekit.credentials.server_identity import ServerIdentity
from servicekit.grpc.error_mapping import Handler
from servicekit.grpc.gate import TOLD_S, Quiet
from servicekit.grpc.limits import FIRST_MESSAGE_S
from servicekit.grpc_core.bulkhead import Bulkhead
from servicekit.grpc_core.completions import PATIENCE
from servicekit.grpc_core.direct_unary_calls import UnaryCalls
from servicekit.server.health_service import HealthService
from servicekit.server.health_states import HEALTH_SERVICE, NOT_SERVING, SERVING
from servicekit.server.reflection_service import ReflectionService
from servicekit.server.server_options import merged
from servicekit.server.threaded import STREAMS_WAITING, ThreadedServer

STRAGGLERS_S: Final = 1.0
"""Seconds in which calls that have come without their message must send it at a drain."""


class ThreadServer(ThreadedServer):
    """A server of threads with health, reflection, error mapping, and bulkheads between kinds of calls.

    Args:
        services: Full names of the services that will be added.
        threads: Calls of one request and one reply handled at once; a quarter as many of several replies.
        options: gRPC channel arguments beyond the defaults; later ones win.
        decorators: Put around each method's handler, inside of error mapping, the first one innermost.
        error_metadata: Trailing metadata of every error.
        first_message_s: Seconds in which a caller must send the message that its call waits for.
    """

    def __init__(
        self,
        services: Sequence[str],
        *,
        threads: int,
        options: Sequence[tuple[str, int]] = (),
        decorators: Sequence[Callable[[Handler], Handler]] = (),
        error_metadata: Sequence[tuple[str, str]] = (),
        first_message_s: float = FIRST_MESSAGE_S,
    ) -> None:
        super().__init__(services, decorators=decorators, error_metadata=error_metadata)
        # gRPC's own layer is left with calls of unknown methods, for which it needs no thread.
        self._grpc = grpc.server(ThreadPoolExecutor(1, thread_name_prefix="unknown"), options=merged(options))
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

    def start(self, address: str, identity: ServerIdentity | None = None) -> int:
        """Listen and return the port; RuntimeError when the address is taken."""
        port = self._listen(address, identity)
        self._grpc.start()
        self._unary.begin()
        for part in self._apart():
            part.begin()
        self._looking.start()
        return port

    def set_serving(self, *, serving: bool) -> None:
        """Tell health of every service."""
        for name in self._names:
            self._health.set(name, SERVING if serving else NOT_SERVING)

    def report(self, part: str, *, serving: bool) -> None:
        """Tell health of one part under a name of its own; the services' state stays."""
        self._health.set(part, SERVING if serving else NOT_SERVING)

    def _look(self) -> None:
        while not self._ending.wait(self._first_message_s / PATIENCE):
            self._look_once()

    def _look_once(self) -> None:
        self._unary.completions.look()
        for part in self._apart():
            part.conversations.look()

    def _running(self) -> int:
        return self._unary.completions.running() + sum(part.conversations.running() for part in self._apart())

    def _apart(self) -> list[HealthService | ReflectionService | Bulkhead]:
        """Return what answers calls apart from the pages."""
        return [self._health, self._reflection, *self._bulkheads]

    def drain(self, grace_s: float, *, lame_duck_s: float = 0) -> None:
        """Say NOT_SERVING for good, then refuse new calls, and let running ones finish.

        Args:
            grace_s: Seconds after which they are cancelled.
            lame_duck_s: Seconds between the word and the first refusal.
        """
        self._health.end()
        time.sleep(lame_duck_s)
        queues = [self._unary.completions, *(part.conversations.completions for part in self._apart())]
        if grace_s:
            for queue in queues:
                queue.hold()
            Quiet(lambda: sum(queue.arrivals for queue in queues), self._running).wait()
        stopped = self._grpc.stop(grace_s)
        if grace_s:
            stopped.wait(TOLD_S)
        for queue in queues:
            queue.release()
        # They wait for news, or for a question that is not asked.
        self._health.conversations.dismiss()
        self._reflection.conversations.dismiss()
        if not stopped.wait(STRAGGLERS_S):
            for _ in range(PATIENCE):
                self._look_once()
        stopped.wait()
        self._ending.set()
        self._end_identity()
