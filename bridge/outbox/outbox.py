"""Sends outbox messages to Kafka: straight after the commit, or by the relay when they were left behind.

A row is deleted once Kafka has its message. The order of each key is kept: a message is sent straight away only when
all earlier messages of its key are in this process's own producer; otherwise the relay sends it after them. A crash
or a lost acknowledgement makes a message arrive again, with the same `event-id` header.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol
from uuid import UUID

import structlog

from bridge.domain.deadline import Clock
from bridge.kafka.message import Message
from bridge.kafka.single_sender import Delivery
from bridge.outbox.pending import PendingByKey
from bridge.outbox.states import HELD_HERE, SENT_HERE, TRANSITIONS, RowEvent, State
from bridge.outbox.table import delete
from bridge.postgres.pool import Database, DatabaseUnavailableError
from servicekit.telemetry.metrics import Metric, Metrics

DELETE_PAUSE_S: Final = 0.05
RETRY_S: Final = 1.0
MEMORY_S: Final = 1.0
"""Seconds that a deleted row is still known as this process's own: statements that saw it may yet return."""

_UNKNOWN: Final = State.UNKNOWN
"""A name of the module costs a tenth of an attribute of an enumeration, and this is looked up for every message."""

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message, and when its event was accepted, on the clock."""

    message: Message
    accepted_at: float


def on_undefined(event_id: UUID, event: RowEvent, state: State) -> None:
    """Log an event that the state of a row does not allow, and keep the state: a defect must not stop the traffic."""
    logger.error("outbox.undefined_transition", event_id=str(event_id), happening=event.name, state=state.name)


class Publisher(Protocol):
    """Sends messages; those of one key arrive in the order of `publish`."""

    def publish(self, message: Message, done: Callable[[bool], None]) -> None:
        """Send a message and call `done` once, with whether it is durable."""

    async def send_singly(self, messages: Sequence[Message]) -> list[Delivery]:
        """Send messages alone, in order, while nobody else sends any of their keys; return the outcome of each."""

    @property
    def refusals(self) -> int:
        """Return how often messages were refused for a reason that a retry does not cure."""


class Outbox:
    """The messages of this process between Postgres and Kafka. Belongs to one event loop.

    Each row has one state, and what happens to it changes that by `bridge.outbox.states.TRANSITIONS`.
    """

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
        self.scanned = False
        """Whether all that is left in the outbox, as of the last scan, is known here: a later message that passes by
        Postgres can then be sent after it."""
        self._states: dict[UUID, State] = {}
        self._sent_here = 0
        self._remembered = PendingByKey(evicted=self._on_evicted)
        """Messages that are left to the relay, for the time when Postgres is away."""
        self._to_delete: list[UUID] = []
        self._wake = asyncio.Event()

    @property
    def sent_count(self) -> int:
        """Return the number of rows that this process sends, or has just sent, itself."""
        return self._sent_here

    def state(self, event_id: UUID) -> State:
        """Return the state of a row's message."""
        return self._states.get(event_id, State.UNKNOWN)

    def is_held(self, event_id: UUID) -> bool:
        """Return whether the relay must leave a row alone: this process commits it or sends it."""
        return self._states.get(event_id) in HELD_HERE

    def left_to_relay(self) -> list[UUID]:
        """Return the rows left to the relay whose messages are remembered."""
        return self._remembered.event_ids()

    def begin_commit(self, event_ids: Iterable[UUID]) -> set[UUID]:
        """Hold these rows back from the relay before their commit; return those that were not held yet."""
        begun = {event_id for event_id in event_ids if self._states.get(event_id) not in HELD_HERE}
        for event_id in begun:
            self._move(event_id, RowEvent.COMMIT_BEGINS)
        return begun

    def end_commit_without(self, event_ids: Iterable[UUID]) -> None:
        """Release rows that the commit did not insert: if they exist, the relay sends them."""
        for event_id in event_ids:
            self._move(event_id, RowEvent.COMMIT_ENDS_WITHOUT_THE_ROW)

    def send_committed(self, fresh: Sequence[Accepted], waiting: Mapping[UUID, list[UUID]]) -> None:
        """Send committed messages, except those that must wait for earlier ones of their key: the relay sends these.

        Args:
            fresh: In the order in which they were accepted.
            waiting: For each message, the earlier ones of its key that were in the outbox.
        """
        states, blocked = self._states, set[str]()
        for accepted in fresh:
            message = accepted.message
            if message.key in blocked or any(
                states.get(earlier) not in SENT_HERE for earlier in waiting[message.event_id]
            ):
                blocked.add(message.key)
                self.leave_to_relay(message)
            else:
                self._send(message, accepted.accepted_at)

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

        for earlier in self._remembered.take(message.key):
            if self._states.get(earlier.event_id) not in SENT_HERE:  # else the relay has sent it just now
                self._send(earlier, self._clock())
        self._publisher.publish(message, ended)

    def leave_to_relay(self, message: Message) -> None:
        """Leave a message's row to the relay: it could not be sent, or must wait for earlier ones of its key."""
        if self._move(message.event_id, RowEvent.MESSAGE_HAS_TO_WAIT) is State.LEFT_TO_RELAY:
            self._remembered.remember(message)

    def on_scan(self, messages: Iterable[Message]) -> None:
        """Record the rows that a scan of the outbox found, in order: each is left to the relay."""
        messages = [*messages]
        for message in messages:
            self._move(message.event_id, RowEvent.SCAN_SHOWS_THE_ROW)
        self._remembered.found(messages)

    def on_repeat(self, message: Message) -> None:
        """Record an event that an unknown process recorded before: its row may still be in the outbox."""
        if self._move(message.event_id, RowEvent.SCAN_SHOWS_THE_ROW) is State.LEFT_TO_RELAY:
            self._remembered.remember(message)

    def end_scan(self, *, complete: bool, settled_s: float) -> None:
        """Record the end of a scan: whether it read the whole outbox, and up to when rows must have shown."""
        self.scanned = complete and self._clock() - self._began_at > settled_s

    def mark_relaying(self, event_ids: Iterable[UUID]) -> None:
        """Mark rows whose messages the relay sends now: later ones of their keys go straight after them."""
        for event_id in event_ids:
            self._move(event_id, RowEvent.RELAY_SENDS_THE_MESSAGE)

    def mark_relayed(self, event_ids: Iterable[UUID]) -> None:
        """Mark rows whose messages the relay has brought to Kafka, and which it is about to delete."""
        for event_id in event_ids:
            self._move(event_id, RowEvent.RELAY_HAS_SENT_THE_MESSAGE)

    def mark_acknowledged(self, event_ids: Iterable[UUID]) -> None:
        """Mark rows whose messages Kafka has, and delete them as soon as possible."""
        for event_id in event_ids:
            if self._states.get(event_id) is not State.IN_FLIGHT:  # of others the message may be remembered
                self._remembered.forget([event_id])
            self._move(event_id, RowEvent.KAFKA_ACKNOWLEDGES)
            self._to_delete.append(event_id)
        self._wake.set()

    def mark_gone(self, event_ids: Iterable[UUID]) -> None:
        """Mark rows left to the relay that are no longer in the outbox."""
        event_ids = [*event_ids]
        self._remembered.forget(event_ids)
        for event_id in event_ids:
            self._move(event_id, RowEvent.ROW_IS_FORGOTTEN)

    def _move(self, event_id: UUID, event: RowEvent) -> State:
        """Change a row's state by the table; return the new state."""
        before = self._states.get(event_id, _UNKNOWN)
        after = TRANSITIONS[event].get(before)
        if after is None:
            on_undefined(event_id, event, before)
            return before
        if after is _UNKNOWN and event_id in self._remembered:
            after = State.LEFT_TO_RELAY
        if after is before:
            return after
        self._sent_here += (after in SENT_HERE) - (before in SENT_HERE)
        if after is _UNKNOWN:
            del self._states[event_id]
        else:
            self._states[event_id] = after
        return after

    def _send(self, message: Message, accepted_at: float) -> None:
        self._move(message.event_id, RowEvent.MESSAGE_IS_SENT)
        self._publisher.publish(message, partial(self._on_outcome, message, accepted_at))

    def _on_outcome(self, message: Message, accepted_at: float, acknowledged: bool) -> None:  # noqa: FBT001  # a callback
        if not acknowledged:
            self.leave_to_relay(message)
            return
        self._observe(accepted_at)
        self.mark_acknowledged([message.event_id])

    def _observe(self, accepted_at: float) -> None:
        self._metrics.distribution(Metric.PUBLISH_LATENCY, (self._clock() - accepted_at) * 1000)

    def _on_evicted(self, event_id: UUID) -> None:
        self._move(event_id, RowEvent.ROW_IS_FORGOTTEN)

    def _end_memory(self, event_ids: Iterable[UUID]) -> None:
        for event_id in event_ids:
            self._move(event_id, RowEvent.MEMORY_ENDS)

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
        """Delete the rows that Kafka has acknowledged; on DatabaseUnavailableError they stay for the next time."""
        gone = list(self._to_delete)
        if not gone:
            return
        async with self._database.statements() as connection:
            await delete(connection, gone)
        del self._to_delete[: len(gone)]
        if not self._to_delete:
            self._wake.clear()
        asyncio.get_running_loop().call_later(MEMORY_S, self._end_memory, gone)
