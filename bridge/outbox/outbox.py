"""From the outbox to Kafka: straight after the commit, and by a relay for what was left behind.

A row is deleted once Kafka has its message. The order of each key is kept: a message is sent straight away only when
all earlier messages of its key are in this process's own producer; otherwise the relay sends it after them. A crash
or a lost acknowledgement makes a message arrive again, with the same `event-id` header.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol
from uuid import UUID

from bridge.domain.deadline import Clock
from bridge.kafka.message import Message
from bridge.kafka.single_sender import Delivery
from bridge.outbox.pending import PendingByKey
from bridge.outbox.table import delete
from bridge.postgres.pool import Database, DatabaseUnavailableError
from servicekit.telemetry.metrics import Metric, Metrics

DELETE_PAUSE_S: Final = 0.05
RETRY_S: Final = 1.0
MEMORY_S: Final = 1.0
"""Seconds that a deleted row is still known as this process's own: statements that saw it may yet return."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message, and when its event was accepted, on the clock."""

    message: Message
    accepted_at: float


class Publisher(Protocol):
    """Sends messages; those of one key arrive in the order of `publish`."""

    def publish(self, message: Message, done: Callable[[bool], None]) -> None:
        """Send a message and call `done` once, with whether it is durable."""

    async def send_singly(self, messages: Sequence[Message]) -> list[Delivery]:
        """Send messages alone, in order, while nobody else sends any of their keys; return what became of each."""

    @property
    def refusals(self) -> int:
        """How often messages were refused in a way that trying again does not mend."""


class Outbox:
    """The messages of this process between Postgres and Kafka. Belongs to one event loop."""

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        metrics: Metrics,
        clock: Clock,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._began_at = clock()
        self.known = False
        """Whether all that is left in the outbox, as of the last look, is known here: a later message that passes by
        Postgres can then be sent after it."""
        self._own: set[UUID] = set()
        self._claimed: set[UUID] = set()
        """Rows of commits under way: a later message of their key must wait for them, unlike for those in `_own`."""
        self._left = PendingByKey()
        self._acknowledged: list[UUID] = []
        self._wake = asyncio.Event()

    @property
    def own(self) -> AbstractSet[UUID]:
        """The rows that this process sends, or has sent, itself."""
        return self._own

    def cares_for(self, event_id: UUID) -> bool:
        """Return whether the relay must leave a row alone: it is being committed here, or sent."""
        return event_id in self._own or event_id in self._claimed

    def looked(self, *, complete: bool, settled_s: float) -> None:
        """Take note of a look at the outbox: whether all of it was seen, and when rows must have shown by then."""
        self.known = complete and self._clock() - self._began_at > settled_s

    def found(self, messages: Iterable[Message]) -> None:
        """Take note of what a look at the outbox has shown, in its order."""
        self._left.found(messages)

    def left(self) -> list[UUID]:
        """Return the rows that are left to the relay, as far as they are remembered."""
        return self._left.event_ids()

    def forget(self, event_ids: Iterable[UUID]) -> None:
        """Take note that rows left to the relay are gone."""
        self._left.forget(event_ids)

    def claim(self, event_ids: Iterable[UUID]) -> set[UUID]:
        """Make the relay leave these rows alone, before they are committed; return those it did not yet."""
        claimed = set(event_ids) - self._own - self._claimed
        self._claimed |= claimed
        return claimed

    def release(self, event_ids: Iterable[UUID]) -> None:
        """Leave claimed rows, where there are any, to the relay."""
        self._claimed.difference_update(event_ids)

    def relaying(self, event_ids: Iterable[UUID]) -> None:
        """Take note of rows whose messages the relay sends now: later ones of their keys go straight after them."""
        self._own.update(event_ids)

    def relayed(self, event_ids: Iterable[UUID]) -> None:
        """Take note of rows whose messages Kafka has from the relay, or that are gone."""
        self._own.difference_update(event_ids)

    def dispatch(self, fresh: Sequence[Accepted], waiting: Mapping[UUID, list[UUID]]) -> None:
        """Send committed messages, but leave those to the relay that must wait for earlier ones of their key.

        Args:
            fresh: In the order in which they were accepted.
            waiting: For each message, the earlier ones of its key that were in the outbox.
        """
        held: set[str] = set()
        for accepted in fresh:
            message = accepted.message
            if message.key in held or not self._own.issuperset(waiting[message.event_id]):
                held.add(message.key)
                self.leave(message)
            else:
                self._send_own(message, accepted.accepted_at)

    def send_unrecorded(self, message: Message, accepted_at: float, done: Callable[[bool], None]) -> None:
        """Send a message that has no row, after those of its key that this process has left in the outbox.

        Args:
            message: The message.
            accepted_at: When it was accepted, on the clock.
            done: Told whether it is durable.
        """

        def ended(durable: bool) -> None:  # noqa: FBT001  # a callback
            if durable:
                self._observe(accepted_at)
            done(durable)

        for earlier in self._left.take(message.key):
            if earlier.event_id not in self._own:  # else the relay has sent it just now
                self._send_own(earlier, self._clock())
        self._publisher.publish(message, ended)

    def leave(self, message: Message) -> None:
        """Leave a message's row to the relay."""
        self._own.discard(message.event_id)
        self._claimed.discard(message.event_id)
        self._left.remember(message)

    def sent(self, event_ids: Iterable[UUID]) -> None:
        """Delete rows, as soon as that can be done, whose messages Kafka has without their having been dispatched."""
        event_ids = list(event_ids)
        self._own.update(event_ids)
        self._claimed.difference_update(event_ids)
        self._acknowledged += event_ids
        self._wake.set()

    def _send_own(self, message: Message, accepted_at: float) -> None:
        self._own.add(message.event_id)
        self._claimed.discard(message.event_id)
        self._publisher.publish(message, partial(self._sent, message, accepted_at))

    def _sent(self, message: Message, accepted_at: float, acknowledged: bool) -> None:  # noqa: FBT001  # a callback
        if not acknowledged:
            self.leave(message)
            return
        self._observe(accepted_at)
        self._acknowledged.append(message.event_id)
        self._wake.set()

    def _observe(self, accepted_at: float) -> None:
        self._metrics.distribution(Metric.PUBLISH_LATENCY, (self._clock() - accepted_at) * 1000)

    async def keep_clean(self) -> None:
        """Delete the rows that Kafka has acknowledged; forever."""
        while True:
            await self._wake.wait()
            await self._sleep(DELETE_PAUSE_S)
            try:
                await self.clean()
            except DatabaseUnavailableError:
                await self._sleep(RETRY_S)

    async def clean(self) -> None:
        """Delete the rows that Kafka has acknowledged; DatabaseUnavailableError leaves them for the next time."""
        gone = list(self._acknowledged)
        if not gone:
            return
        async with self._database.statements() as connection:
            await delete(connection, gone)
        del self._acknowledged[: len(gone)]
        if not self._acknowledged:
            self._wake.clear()
        asyncio.get_running_loop().call_later(MEMORY_S, self.relayed, gone)
