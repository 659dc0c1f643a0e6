"""The gate that calls pass on their way to a handler: shut for a moment while a server begins to refuse calls.

gRPC's core cancels calls that it has received and not handed over yet, and those that come before callers have learnt
that the server is about to end. While the gate is shut, whoever awaits an answer calls no further, so that no call is
in either state; those behind the gate have been handed over, and are answered. Where calls come all the same, an
asyncio server's gate refuses them, and the core is left alone.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from servicekit.grpc.limits import STOPPING

QUIET_S: Final = 0.08
"""Seconds without a new call after which it is quiet, once all that passed have ended: callers that have been answered
take some time to call again where processors are busy, and those that come by chance leave gaps."""
QUIET_WITHIN_S: Final = 0.25
"""Seconds after which the wait for quiet ends in any case: so long a page can wait, and where calls come all the time
it is never quiet."""
RECENT_S: Final = 0.25
"""Seconds before the gate is shut in which a connection must have called to be awaited: its callers may be slow."""
TOLD_S: Final = 0.05
"""Seconds in which callers learn that the server is about to end."""
_POLL_S: Final = 0.005


class Gate:
    """Counts the calls of an asyncio server, and keeps them waiting while it is shut."""

    def __init__(self) -> None:
        self.arrivals = 0
        self.ends = 0
        self.streams = 0
        self.is_watched = False
        """Whether calls have to ask for their passage."""
        self._waiting = 0
        self._opened: asyncio.Event | None = None
        self._refuses = False
        self._last_calls: dict[str, float] = {}
        self._callers: set[str] = set()

    async def passage(self, peer: str) -> None:
        """Wait until it is open; ServiceError where calls are refused."""
        if self._refuses:
            raise STOPPING
        self._callers.discard(peer)
        self._last_calls[peer] = time.monotonic()
        if self._opened is not None:
            self._waiting += 1
            try:
                await self._opened.wait()
            finally:
                self._waiting -= 1

    def running(self) -> int:
        """Return how many calls have passed and not ended, without streams, which last."""
        return self.arrivals - self.ends - self._waiting - self.streams

    def awaited(self) -> int:
        """Return how many of those that called shortly before it was shut have not called again."""
        return len(self._callers)

    def watch(self) -> None:
        """Remember who calls from now on."""
        self.is_watched = True

    def shut(self) -> None:
        """Keep calls that arrive from now on waiting."""
        self.is_watched = True
        self._opened = asyncio.Event()
        since = time.monotonic() - RECENT_S
        self._callers = {peer for peer, at in self._last_calls.items() if at > since}

    def refuse(self) -> None:
        """Let those pass that wait, and nobody else."""
        self._refuses = True
        if self._opened is not None:
            self._opened.set()

    def open(self) -> None:
        """Let all pass."""
        if self._opened is not None:
            self._opened.set()
            self._opened = None
            self.is_watched = False


class Quiet:
    """Tells when it is quiet, or has been loud for long enough.

    Args:
        arrivals: Calls that have come, ever.
        running: Calls that have passed and not ended.
        quiet_s: Seconds that it must be quiet.
        within_s: Seconds after which it is over in any case.
        clock: Seconds, ascending.
    """

    def __init__(
        self,
        arrivals: Callable[[], int],
        running: Callable[[], int],
        *,
        quiet_s: float = QUIET_S,
        within_s: float = QUIET_WITHIN_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._arrivals = arrivals
        self._running = running
        self._quiet_s = quiet_s
        self._clock = clock
        self._until = clock() + within_s
        self._since = clock()
        self._count = arrivals()
        self._is_quiet = False

    def is_over(self) -> bool:
        """Return whether the wait is over; ask again and again."""
        now, count = self._clock(), self._arrivals()
        if count != self._count or self._running():
            self._count, self._since = count, now
        self._is_quiet = now - self._since >= self._quiet_s
        return self._is_quiet or now >= self._until

    def wait(self) -> None:
        """Wait until it is quiet, or has been loud for long enough."""
        while not self.is_over():
            time.sleep(_POLL_S)

    async def wait_aio(self) -> bool:
        """Wait, let other tasks run, and return whether it is quiet."""
        while not self.is_over():  # noqa: ASYNC110  # it waits for nothing to happen
            await asyncio.sleep(_POLL_S)
        return self._is_quiet
