"""Brings interactions from Kafka to Postgres that were acknowledged while Postgres was away.

A consumer group reads the whole topic and looks at nothing but the header that marks such messages, and at tombstones.
Its offsets move only after their rows are committed, so a crash repeats work and loses none; event identifiers make
repeats harmless.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Protocol

import psycopg
import structlog

from bridge.database import ConnectionBrokenError, Database, DatabaseUnavailableError
from bridge.dead_letter import dead_letter, without_content
from bridge.erasure import forget_before
from bridge.interaction import Interaction
from bridge.interaction_store import record
from bridge.kafka_reader import Received
from bridge.message import Message, read_interaction
from bridge.outbox import Publisher
from servicekit.telemetry import Metric, Metrics

GROUP: Final = "bridge-refill"
PAUSE_S: Final = 0.5
REFUSALS: Final = (psycopg.Error, ValueError, TypeError)
"""What is raised for values that Postgres cannot hold, such as half a surrogate pair."""

logger = structlog.get_logger(__name__)


class Reader(Protocol):
    """Reads a topic as a member of a consumer group."""

    async def read(self) -> Sequence[Received]:
        """Return what came next, perhaps nothing, after a moment at most."""

    def commit(self) -> None:
        """Note that everything that was returned is dealt with."""


class Refill:
    """Copies marked interactions from a topic into Postgres.

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

    async def run(self) -> None:
        """Copy what comes; forever."""
        await self._database.ready.wait()
        while True:
            received = await self._reader.read()
            if received:
                await self._settle(received)
            self._reader.commit()

    async def _settle(self, received: Sequence[Received]) -> None:
        """Deal with every message, however long it takes."""
        pending: dict[object, tuple[Received, Interaction]] = {}
        for one in received:
            if one.value is None:
                await self._insert(pending)
                pending = {}
                await self._obey(one)
                continue
            try:
                interaction = read_interaction(one.value, one.headers)
            except Exception as error:  # noqa: BLE001  # anybody may write to the topic, and anything
                await self._bury(one, error)
            else:
                pending.setdefault(interaction.event_id, (one, interaction))
        await self._insert(pending)

    async def _obey(self, tombstone: Received) -> None:
        try:
            await self._persist(partial(self._forget, tombstone))
        except REFUSALS as error:
            await self._bury(tombstone, error)

    async def _insert(self, pending: dict[object, tuple[Received, Interaction]]) -> None:
        if not pending:
            return
        try:
            fresh = await self._persist(partial(self._record, [interaction for _, interaction in pending.values()]))
        except REFUSALS as error:
            await self._insert_apart([*pending.values()], error)
            return
        self._metrics.count(Metric.REFILLED, fresh)
        logger.info("refill.recorded", read=len(pending), new=fresh)

    async def _insert_apart(self, pending: Sequence[tuple[Received, Interaction]], error: Exception) -> None:
        """Find the interaction that Postgres refuses, so that the others do not share its fate."""
        if len(pending) == 1:
            await self._bury(pending[0][0], error)
            return
        for one, interaction in pending:
            await self._insert({interaction.event_id: (one, interaction)})

    async def _persist(self, work: Callable[[], Awaitable[int]]) -> int:
        """Do something in Postgres as soon as it is there."""
        while True:
            try:
                return await work()
            except ConnectionBrokenError:
                await self._database.heal()
                await self._sleep(PAUSE_S)
            except DatabaseUnavailableError:
                await self._sleep(PAUSE_S)

    async def _record(self, interactions: Sequence[Interaction]) -> int:
        async with self._database.connection() as connection:
            return len(await record(connection, interactions, [None] * len(interactions)))

    async def _forget(self, tombstone: Received) -> int:
        async with self._database.connection() as connection:
            return await forget_before(connection, tombstone.key, tombstone.timestamp_ms)

    async def _bury(self, received: Received, error: Exception) -> None:
        """Send a message that cannot be processed to the dead letter topic, however long that takes."""
        message = dead_letter(received, error, stage="REFILL")
        while not await self._publish(message):
            (delivery,) = await self._publisher.send_singly([message])
            if delivery.durable:
                break
            if delivery.refusal:
                message = without_content(message)
            await self._sleep(PAUSE_S)
        self._metrics.count(Metric.DEAD_LETTERS)
        logger.error("refill.dead_letter", topic=received.topic, partition=received.partition, offset=received.offset)

    async def _publish(self, message: Message) -> bool:
        outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._publisher.publish(message, outcome.set_result)
        return await outcome
