"""The threads that handle a gRPC server's calls.

`ThreadPoolExecutor` makes a future with a lock of its own for each call, and counts its idle threads under another one.
gRPC needs neither: it asks only to be told when a call has ended. Without them an empty call costs an eighth less.
"""

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeAlias

import structlog

Told: TypeAlias = Callable[[Any], object]

logger = structlog.get_logger(__name__)


class Handling:
    """One call, from its submission to its end: as much of a future as gRPC uses."""

    __slots__ = ("_ended", "_told")

    def __init__(self) -> None:
        self._told: list[Told] = []
        self._ended = False

    def add_done_callback(self, told: Told) -> None:
        """Call back when the call has ended, at once when it has."""
        self._told.append(told)
        if self._ended:
            self._tell()

    def end(self) -> None:
        """Note that the call has ended."""
        self._ended = True
        self._tell()

    def _tell(self) -> None:
        # Two threads may come here at once; a list gives each of its items to one of them.
        while self._told:
            try:
                told = self._told.pop()
            except IndexError:
                return
            told(self)


class CallPool:
    """Runs calls in the order of their submission, in threads that do not keep the process alive.

    Args:
        threads: Calls handled at once.
    """

    def __init__(self, threads: int) -> None:
        self._calls: SimpleQueue[tuple[Handling, Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._threads = [Thread(target=self._run, name=f"rpc-{number}", daemon=True) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Handling:
        """Run a call in one of the threads; what it returns is gRPC's business."""
        handling = Handling()
        self._calls.put((handling, function, arguments))
        return handling

    def shutdown(self) -> None:
        """Let the threads end when the calls before have ended."""
        for _ in self._threads:
            self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            handling, function, arguments = call
            try:
                function(*arguments)
            except Exception:
                logger.exception("rpc.defect")  # gRPC catches what calls raise: this is its own
            handling.end()
            del call, handling, function, arguments  # else an idle thread would keep its last request in memory
