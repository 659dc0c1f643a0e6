"""Copies events from Kafka to Postgres that were acknowledged while Postgres was away.

A consumer group reads the whole topics and looks at nothing but the header that marks such messages, and at tombstones.
Its offsets move only after their rows are committed, so a crash repeats work and loses none; event identifiers make
repeats harmless.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Protocol, TypeVar

import psycopg
import structlog

from bridge.kafka.consumer import Received
from bridge.kafka.dead_letters import dead_letter, without_content
from bridge.kafka.message import Message
from bridge.maintenance.backfill_topics import BACKFILL_TOPICS, BackfillTopic
from bridge.outbox.outbox import Publisher
from bridge.postgres.pool import ConnectionBrokenError, Database, DatabaseUnavailableError
from servicekit.telemetry.metrics import Metric, Metrics

T = TypeVar("T")

GROUP: Final = "bridge-backfill"
PAUSE_S: Final = 0.5
DEFECT_PAUSE_S: Final = 10.0
MAX_CLOCK_ERROR: Final = timedelta(hours=1)
"""By which the clocks of programs and brokers may differ."""
REFUSALS: Final = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.errors.ProgramLimitExceeded,
    ValueError,
    TypeError,
)
"""What is raised for values that Postgres cannot hold, such as half a surrogate pair or a key that is too long."""

logger = structlog.get_logger(__name__)


class Reader(Protocol):
    """Reads a topic as a member of a consumer group."""

    async def read(self) -> Sequence[Received]:
        """Return the next messages, perhaps none, after a moment at most."""

    def commit(self) -> None:
        """Commit the offsets of all returned messages."""


class Backfill:
    """Copies marked events into Postgres.

    Args:
        reader: Returns marked messages and tombstones.
        database: Where they belong.
        publisher: Takes what cannot be read to the dead letter topic.
        metrics: Told how many were copied.
        sleep: Pauses while Postgres is away.
    """

    def __init__(
        self,
        reader: Reader,
        database: Database,
        publisher: Publisher,
        metrics: Metrics,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._reader = reader
        self._database = database
        self._publisher = publisher
        self._metrics = metrics
        self._sleep = sleep
        self._unsettled: Sequence[Received] = ()
        """What was read: it is dealt with again after a defect, as the reader has gone on."""

    async def run(self) -> None:
        """Copy arriving messages; forever."""
        await self._database.ready.wait()
        while True:
            self._unsettled = self._unsettled or await self._reader.read()
            if self._unsettled:
                await self._settle(self._unsettled)
            self._unsettled = ()
            self._reader.commit()

    async def _settle(self, received: Sequence[Received]) -> None:
        """Settle every message, however long that takes."""
        by_topic: dict[str, list[Received]] = {}
        for one in received:
            by_topic.setdefault(one.topic, []).append(one)
        for topic, messages in by_topic.items():
            await self._settle_topic(BACKFILL_TOPICS[topic], messages)

    async def _settle_topic(self, kind: BackfillTopic[T], received: Sequence[Received]) -> None:
        pending: dict[bytes, tuple[Received, T]] = {}
        for one in received:
            if one.value is None:
                await self._insert(kind, [*pending.values()])
                pending = {}
                await self._obey(kind, one)
                continue
            try:
                event = kind.read(one.value, one.headers)
                _check_clock(one, kind.occurred_at(event))
                identity, content = kind.identity(event), kind.content(event)
            except Exception as error:  # noqa: BLE001  # anybody may write to the topic, and anything
                await self._bury(one, error)
                continue
            if identity in pending and kind.content(pending[identity][1]) != content:
                await self._insert(kind, [*pending.values()])
                pending = {}
            pending.setdefault(identity, (one, event))
        await self._insert(kind, [*pending.values()])

    async def _obey(self, kind: BackfillTopic[T], tombstone: Received) -> None:
        try:
            await self._persist(partial(self._forget, kind, tombstone))
        except REFUSALS as error:
            await self._bury(tombstone, error)

    async def _insert(self, kind: BackfillTopic[T], pending: Sequence[tuple[Received, T]]) -> None:
        if not pending:
            return
        try:
            fresh = await self._persist(partial(self._record, kind, [event for _, event in pending]))
        except REFUSALS as error:
            await self._insert_apart(kind, pending, error)
            return
        self._metrics.count(Metric.BACKFILLED, fresh)
        logger.info("backfill.recorded", topic=pending[0][0].topic, read=len(pending), new=fresh)

    async def _insert_apart(
        self, kind: BackfillTopic[T], pending: Sequence[tuple[Received, T]], error: Exception
    ) -> None:
        """Insert events by halves to find the one that Postgres refuses, so that the others do not fail with it."""
        if len(pending) == 1:
            await self._bury(pending[0][0], error)
            return
        for one in pending:
            await self._insert(kind, [one])

    async def _persist(self, work: Callable[[], Awaitable[int]]) -> int:
        """Run a step in Postgres as soon as that answers."""
        while True:
            try:
                return await work()
            except ConnectionBrokenError:
                await self._database.heal()
                await self._sleep(PAUSE_S)
            except DatabaseUnavailableError:
                await self._sleep(PAUSE_S)
            except REFUSALS:
                raise
            except psycopg.Error as error:  # such as a missing privilege: no message is to blame
                logger.error("backfill.waits", problem=str(error).strip())  # noqa: TRY400  # the trace says no more
                await self._sleep(DEFECT_PAUSE_S)

    async def _record(self, kind: BackfillTopic[T], events: Sequence[T]) -> int:
        async with self._database.connection() as connection:
            return await kind.record(connection, events)

    async def _forget(self, kind: BackfillTopic[T], tombstone: Received) -> int:
        async with self._database.connection() as connection:
            return await kind.forget(connection, tombstone.key, tombstone.timestamp_ms)

    async def _bury(self, received: Received, error: Exception) -> None:
        """Send a message that cannot be processed to the dead letter topic, however long that takes."""
        message = dead_letter(received, error, stage="BACKFILL")
        while not await self._publish(message):
            (delivery,) = await self._publisher.send_singly([message])
            if delivery.durable:
                break
            if delivery.refusal:
                message = without_content(message)
            await self._sleep(PAUSE_S)
        self._metrics.count(Metric.DEAD_LETTERS)
        logger.error("backfill.dead_letter", topic=received.topic, partition=received.partition, offset=received.offset)

    async def _publish(self, message: Message) -> bool:
        outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._publisher.publish(message, outcome.set_result)
        return await outcome


def _check_clock(received: Received, occurred_at: datetime) -> None:
    """Raise ValueError if the event happened after its message was sent, on any clock."""
    sent_at = datetime.fromtimestamp(received.timestamp_ms / 1000, UTC)
    if received.timestamp_ms > 0 and occurred_at > sent_at + MAX_CLOCK_ERROR:
        raise ValueError(f"timestamp is {occurred_at.isoformat()}, and the message was sent at {sent_at.isoformat()}")
