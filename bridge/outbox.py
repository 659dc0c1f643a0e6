"""From the outbox to Kafka: straight after the commit, and by a relay for what was left behind.

A row is deleted once Kafka has its message. The order of each key is kept: a message is sent straight away only when
all earlier messages of its key are in this process's own producer; otherwise the relay sends it after them. A crash
or a lost acknowledgement makes a message arrive again, with the same `event-id` header.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol
from uuid import UUID

import structlog

from bridge.database import Connection, Database, DatabaseUnavailableError
from bridge.deadline import Clock
from bridge.left_behind import LeftBehind
from bridge.message import Message
from bridge.outbox_dead import count_dead, set_aside
from bridge.refusal import Delivery
from servicekit.telemetry import Metric, Metrics

RELAY_LOCK: Final = 4_701_003
RELAY_BATCH: Final = 2000
RELAY_PAUSE_S: Final = 1.0
YOUNG_S: Final = 2.0
"""Seconds in which a row is left to the process that made it."""
MOST_IN_FLIGHT: Final = 10_000
"""Messages in the producer above which the relay adds none."""
DELETE_PAUSE_S: Final = 0.02
MEMORY_S: Final = 1.0
"""Seconds that a deleted row is still known as this process's own: statements that saw it may yet return."""
DEPTH_INTERVAL_S: Final = 10.0

# Identity order is not commit order: only below the oldest running transaction can no earlier row turn up any more.
_LEFT_BEHIND: Final = """
SELECT id, aggregatetype, aggregateid, type, payload::text, headers FROM interactions_outbox
WHERE transaction_id < pg_snapshot_xmin(pg_current_snapshot())
  AND created_at < now() - make_interval(secs => %s) AND NOT id = ANY(%s::uuid[])
ORDER BY transaction_id, sequence LIMIT %s
"""
_DELETE: Final = "DELETE FROM interactions_outbox WHERE id = ANY(%s::uuid[])"

logger = structlog.get_logger(__name__)


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
        self._unsure_since = clock()
        self.known = False
        """Whether all that is left in the outbox, as of the last look, is known here: a later message that passes by
        Postgres can then be sent after it."""
        self._own: set[UUID] = set()
        self._left = LeftBehind()
        self._acknowledged: list[UUID] = []
        self._wake = asyncio.Event()

    def claim(self, event_ids: Iterable[UUID]) -> set[UUID]:
        """Make the relay leave these rows alone, before they are committed; return those it did not yet."""
        claimed = set(event_ids) - self._own
        self._own |= claimed
        return claimed

    def release(self, event_ids: Iterable[UUID]) -> None:
        """Leave these rows, where there are any, to the relay."""
        self._own.difference_update(event_ids)

    def dispatch(self, messages: Sequence[Message], waiting: Mapping[UUID, list[UUID]], accepted_at: float) -> None:
        """Send committed messages, but leave those to the relay that must wait for earlier ones of their key.

        Args:
            messages: In the order in which they were accepted.
            waiting: For each message, the earlier ones of its key that were in the outbox.
            accepted_at: When the first of them was accepted, on the clock.
        """
        held: set[str] = set()
        for message in messages:
            if message.key in held or not self._own.issuperset(waiting[message.event_id]):
                held.add(message.key)
                self.leave(message)
            else:
                self._send_own(message, accepted_at)

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
            self._send_own(earlier, self._clock())
        self._publisher.publish(message, ended)

    def doubt(self) -> None:
        """Take note that there may be rows that nobody told of, as after a commit whose outcome is open."""
        self.known = False
        self._unsure_since = self._clock()

    def leave(self, message: Message) -> None:
        """Leave a message's row to the relay."""
        self._own.discard(message.event_id)
        self._left.remember(message)

    def sent(self, event_ids: Iterable[UUID]) -> None:
        """Delete rows, as soon as that can be done, whose messages Kafka has without their having been dispatched."""
        event_ids = list(event_ids)
        self._own.update(event_ids)
        self._acknowledged += event_ids
        self._wake.set()

    def _send_own(self, message: Message, accepted_at: float) -> None:
        self._own.add(message.event_id)
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
                await self._sleep(RELAY_PAUSE_S)

    async def clean(self) -> None:
        """Delete the rows that Kafka has acknowledged; DatabaseUnavailableError leaves them for the next time."""
        gone = list(self._acknowledged)
        if not gone:
            return
        async with self._database.connection() as connection:
            await connection.execute(_DELETE, [gone])
        del self._acknowledged[: len(gone)]
        if not self._acknowledged:
            self._wake.clear()
        asyncio.get_running_loop().call_later(MEMORY_S, self.release, gone)

    async def relay(self) -> None:
        """Send what was left behind, by this process or another, and report how much there is; forever."""
        depth_due = self._clock()
        while True:
            sent = 0
            try:
                sent = await self.relay_batch()
                if self._clock() >= depth_due:
                    depth_due = self._clock() + DEPTH_INTERVAL_S
                    await self._report()
            except DatabaseUnavailableError:
                pass  # the database says so itself, once
            if sent < RELAY_BATCH:
                await self._sleep(RELAY_PAUSE_S)

    async def relay_batch(self) -> int:
        """Send one batch of rows left behind, in order; return how many reached Kafka.

        Only one process relays at a time; the others find the lock taken and send nothing.
        """
        if len(self._own) > MOST_IN_FLIGHT:
            return 0
        sent: list[UUID] = []
        refused: dict[UUID, str] = {}
        try:
            async with self._database.connection() as connection:
                locked = await _value(connection, "SELECT pg_try_advisory_xact_lock(%s)", [RELAY_LOCK])
                if not locked:
                    return 0
                cursor = await connection.execute(_LEFT_BEHIND, [YOUNG_S, list(self._own), RELAY_BATCH])
                messages = [_message(row) for row in await cursor.fetchall()]
                sent, refused = await self._send(messages)
                # What a process that has died just now left behind is too young to be found by the first looks.
                settled_s = self._clock() - self._unsure_since
                self.known = len(messages) < RELAY_BATCH and settled_s > YOUNG_S + RELAY_PAUSE_S
                await self._remove(connection, sent, refused)
        except DatabaseUnavailableError:
            self.sent(sent)  # the rows may still be there: they are not sent again
            raise
        return len(sent) + len(refused)

    async def _remove(self, connection: Connection, sent: Sequence[UUID], refused: Mapping[UUID, str]) -> None:
        """Delete what Kafka has, and set aside what it will never have."""
        if sent:
            await connection.execute(_DELETE, [sent])
            self._left.forget(sent)
            logger.info("outbox.relayed", messages=len(sent))
        if refused:
            await set_aside(connection, refused)
            self._left.forget(refused)
            self._metrics.count(Metric.DEAD_LETTERS, len(refused))

    async def _report(self) -> None:
        depth = await self.depth()
        self._metrics.gauge(Metric.OUTBOX_DEPTH, depth)
        if depth == 0:
            self._left.clear()
        async with self._database.connection() as connection:
            self._metrics.gauge(Metric.OUTBOX_DEAD, await count_dead(connection))

    async def depth(self) -> int:
        """Return how many messages Kafka has not acknowledged, by a cheap estimate above 100,000."""
        async with self._database.connection() as connection:
            return int(await _value(connection, "SELECT count(*) FROM (SELECT FROM interactions_outbox LIMIT 100000)"))

    async def _send(self, messages: Sequence[Message]) -> tuple[list[UUID], dict[UUID, str]]:
        """Publish all; return, once the outcome of each is known, those that are durable and why others never will."""
        loop = asyncio.get_running_loop()
        self.claim(message.event_id for message in messages)
        refusals = self._publisher.refusals
        outcomes = []
        for message in messages:
            outcome: asyncio.Future[bool] = loop.create_future()
            self._publisher.publish(message, partial(self._relayed, message, outcome))
            outcomes.append(outcome)
        acknowledged = await asyncio.gather(*outcomes)
        sent = [message.event_id for message, well in zip(messages, acknowledged, strict=True) if well]
        self.release(sent)
        failed = [message for message, well in zip(messages, acknowledged, strict=True) if not well]
        if not failed or self._publisher.refusals == refusals:
            return sent, {}
        deliveries = await self._publisher.send_singly(failed)
        pairs = [*zip((message.event_id for message in failed), deliveries, strict=True)]
        sent += [event_id for event_id, delivery in pairs if delivery.durable]
        return sent, {event_id: delivery.refusal for event_id, delivery in pairs if delivery.refusal}

    def _relayed(self, message: Message, outcome: "asyncio.Future[bool]", acknowledged: bool) -> None:  # noqa: FBT001  # a callback
        if not acknowledged:
            self.leave(message)  # at once: a later message of its key must not be sent before it
        if not outcome.done():
            outcome.set_result(acknowledged)


async def _value(connection: Connection, query: str, parameters: Sequence[object] = ()) -> Any:
    row = await (await connection.execute(query, parameters)).fetchone()
    return row[0] if row else None


def _message(row: tuple[Any, ...]) -> Message:
    event_id, topic, key, kind, value, headers = row
    return Message(event_id=event_id, topic=topic, key=key, kind=kind, value=value, headers=headers)
