"""Interactions that wait for their commit, in the order in which they came.

Every commit costs the same three programs something, however little it holds. Under load a pause between two of them
lets more events share one; a lone caller never waits, as its next event comes after the pause.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from bridge.acknowledgement import Entry
from bridge.deadline import Clock

BATCH: Final = 500
MOST_WAITING: Final = 10_000
"""Interactions that may wait for a commit; beyond, callers are turned away at once."""
PAUSE_EACH_S: Final = 0.002
"""Seconds between two batches for each entry of the first, so that the pause grows with the load."""
MOST_PAUSE_S: Final = 0.01


class CommitQueue:
    """Hands entries out in batches. Belongs to one event loop.

    Args:
        clock: Monotonic seconds.
        sleep: Pauses between two batches.
    """

    def __init__(self, clock: Clock, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._entries: deque[Entry] = deque()
        self._wake = asyncio.Event()
        self._rest_until = clock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def full(self) -> bool:
        """Whether no more may wait."""
        return len(self._entries) >= MOST_WAITING

    def add(self, entry: Entry) -> None:
        """Put an entry at the end."""
        self._entries.append(entry)
        self._wake.set()

    def give_back(self, batch: Sequence[Entry]) -> None:
        """Put entries back to the front."""
        self._entries.extendleft(reversed(batch))
        self._wake.set()

    async def take(self) -> list[Entry]:
        """Return the oldest entries that somebody still waits for, as soon as there are any and the pause is over."""
        while True:
            await self._wake.wait()
            rest = self._rest_until - self._clock()
            if rest > 0 and len(self._entries) < BATCH:
                await self._sleep(rest)
            batch = self._oldest()
            if batch:
                self._rest_until = self._clock() + min(MOST_PAUSE_S, PAUSE_EACH_S * len(batch))
                return batch

    def _oldest(self) -> list[Entry]:
        batch: list[Entry] = []
        while self._entries and len(batch) < BATCH:
            entry = self._entries.popleft()
            if not entry.done.done():
                batch.append(entry)
        if not self._entries:
            self._wake.clear()
        return batch
