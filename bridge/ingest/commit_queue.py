"""Queues interactions for their commit in the order of arrival, each with a time-out.

Every commit costs the same three programs something, however little it holds. Under load a pause between two of them
lets more events share one; a lone caller never waits, as its next event comes after the pause.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bridge.domain.deadline import Clock
from bridge.domain.event_identity import EventIdReusedError
from bridge.domain.interaction import Interaction
from bridge.ingest.acknowledgement import Acknowledgement, NotDurableError, Outcome

BATCH: Final = 500
MAX_WAITING: Final = 10_000
"""Interactions that may wait for a commit; beyond, callers are turned away at once."""
MAX_WAITING_BYTES: Final = 32 << 20
"""Bytes of theirs that may: their metadata can make each of them large."""
INTERACTION_BYTES: Final = 2000
METADATA_BYTES: Final = 300
"""What an interaction takes of the memory without its metadata, and each of their entries beside its characters."""
PAUSE_EACH_S: Final = 0.002
"""Seconds between two batches for each entry of the first, so that the pause grows with the load."""
MAX_PAUSE_S: Final = 0.01
TICK_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class PendingInteraction:
    """An interaction between its arrival and its acknowledgement.

    Attributes:
        interaction: What was done.
        identity: Of the user's event.
        content: Digest of the interaction's content.
        accepted_at: When it was accepted, on the clock.
        done: What its caller waits for.
    """

    interaction: Interaction
    identity: bytes
    content: int
    accepted_at: float
    done: Outcome

    def acknowledge(self, content: int | None, *, duplicate: bool) -> None:
        """Acknowledge the interaction, or report that its identifier is recorded for another content."""
        if self.done.done():
            return
        if content is not None and content != self.content:
            self.done.set_exception(EventIdReusedError(self.interaction.event_id))
        else:
            self.done.set_result(Acknowledgement(self.interaction.event_id, duplicate))


def fail(entries: Iterable[PendingInteraction], error: Exception) -> None:
    """Pass the error to the callers that still wait."""
    for entry in entries:
        if not entry.done.done():
            entry.done.set_exception(error)


class TimeoutWheel:
    """Fails futures that have no result in time, up to a tick early. Belongs to one event loop.

    A tick's worth of them shares one timer: a timer for each call would cost more than its wait.
    """

    def __init__(self) -> None:
        self._ticks: dict[int, list[asyncio.Future[Any]]] = {}

    def watch(self, done: "asyncio.Future[Any]", timeout_s: float) -> None:
        """Give the future NotDurableError unless it is done within the time."""
        loop = done.get_loop()
        tick = int((loop.time() + timeout_s) / TICK_S)
        due = self._ticks.get(tick)
        if due is None:
            due = self._ticks[tick] = []
            loop.call_at(tick * TICK_S, self._expire, tick)
        due.append(done)

    def _expire(self, tick: int) -> None:
        for done in self._ticks.pop(tick):
            if not done.done():
                done.set_exception(NotDurableError("the interaction could not be made durable in time"))


class CommitQueue:
    """Hands entries out in batches. Belongs to one event loop.

    Args:
        clock: Monotonic seconds.
        sleep: Pauses between two batches.
    """

    def __init__(self, clock: Clock, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._entries: deque[PendingInteraction] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._rest_until = clock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def full(self) -> bool:
        """Return whether the queue has no room."""
        return len(self._entries) >= MAX_WAITING or self._bytes >= MAX_WAITING_BYTES

    def add(self, entry: PendingInteraction) -> None:
        """Put an entry at the end."""
        self._entries.append(entry)
        self._bytes += interaction_bytes(entry.interaction)
        self._wake.set()

    def give_back(self, batch: Sequence[PendingInteraction]) -> None:
        """Put entries back to the front."""
        self._entries.extendleft(reversed(batch))
        self._bytes += sum(interaction_bytes(entry.interaction) for entry in batch)
        self._wake.set()

    async def take(self) -> list[PendingInteraction]:
        """Return the oldest entries with a waiting caller, as soon as any exist and the pause is over."""
        while True:
            await self._wake.wait()
            rest = self._rest_until - self._clock()
            if rest > 0 and len(self._entries) < BATCH:
                await self._sleep(rest)
            batch = self._oldest()
            if batch:
                self._rest_until = self._clock() + min(MAX_PAUSE_S, PAUSE_EACH_S * len(batch))
                return batch

    def _oldest(self) -> list[PendingInteraction]:
        batch: list[PendingInteraction] = []
        while self._entries and len(batch) < BATCH:
            entry = self._entries.popleft()
            self._bytes -= interaction_bytes(entry.interaction)
            if not entry.done.done():
                batch.append(entry)
        if not self._entries:
            self._wake.clear()
        return batch


def interaction_bytes(interaction: Interaction) -> int:
    """Return the bytes that a waiting interaction holds in memory, however large its caller makes it."""
    size = INTERACTION_BYTES
    if interaction.search_query:
        size += 4 * len(interaction.search_query)
    if interaction.metadata:
        size += METADATA_BYTES * len(interaction.metadata)
        # A text with one character beyond the basic plane takes four bytes for each of its characters.
        size += 4 * sum([len(name) + len(value) for name, value in interaction.metadata.items()])
    return size
