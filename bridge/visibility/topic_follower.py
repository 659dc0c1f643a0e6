"""Follows the catalogue's topic, so that a bridge that does not reach Postgres knows what is hidden."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol

import structlog
from confluent_kafka import KafkaException

from bridge.domain.deadline import Clock
from bridge.kafka.consumer import Received
from bridge.kafka.dead_letters import dead_letter, without_content
from bridge.kafka.message import Message
from bridge.kafka.topics import CATALOGUE_TOPIC
from bridge.visibility.changes import Change, Limits, ReadOffsets
from bridge.visibility.hidden import Hidden
from bridge.visibility.record import PLAIN_ENDS, NewerSchemaError, read_key, read_record
from bridge.visibility.topic_reader import Record, RecordBatch, TopicReader
from servicekit.telemetry.metrics import NO_METRICS, Metric, Metrics

PAUSE_S: Final = 1.0
PROGRESS_S: Final = 30.0
"""Seconds between two notes of how far was read, where nothing else is written to disk."""

logger = structlog.get_logger(__name__)


class DeadLetters(Protocol):
    """Sends messages to Kafka."""

    def publish(self, message: Message, done: Callable[[bool], None]) -> None:
        """Send a message and call `done` once, with whether it is durable."""


class TopicFollower:
    """Keeps the hidden set as the topic has it.

    Args:
        hidden: The hidden set.
        reader: Reads the topic from where the hidden set was.
        publisher: Takes what cannot be read to the dead letter topic.
        revision: Returns the last revision that Postgres is known up to, whose videos need no second look.
        metrics: Told of records that cannot be read.
        clock: Monotonic seconds.
        sleep: Pauses while there is no topic.
    """

    def __init__(
        self,
        hidden: Hidden,
        reader: TopicReader,
        publisher: DeadLetters,
        revision: Callable[[], int],
        *,
        metrics: Metrics = NO_METRICS,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._hidden = hidden
        self._reader = reader
        self._publisher = publisher
        self._revision = revision
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._problem = ""
        self._noted_at = clock()
        self.followed = asyncio.Event()
        """Set once everything has been read."""

    async def follow(self) -> None:
        """Apply each record to the hidden set; forever."""
        while True:
            as_of_s, at = self._hidden.clocks()
            try:
                batch = await self._reader.read()
            except KafkaException as error:
                self._tell(error.args[0].str())
                await self._sleep(PAUSE_S)
                continue
            self._tell("")
            await self._take_in(batch)
            if batch.in_step:
                self._hidden.heard(as_of_s, at)
                self.followed.set()

    async def _take_in(self, batch: RecordBatch) -> None:
        news = self._hidden.take_in(self._changes(batch.records))
        if news or self._clock() - self._noted_at > PROGRESS_S:
            self._noted_at = self._clock()
            self._hidden.take_in([ReadOffsets(offsets=tuple(sorted(batch.offsets.items())))])
            await self._hidden.keep()

    def _changes(self, records: Iterable[Record]) -> Iterable[Change]:
        odd = 0
        for record in records:
            try:
                yield from self._read(record)
            except ValueError as error:
                odd += 1
                self._bury(record, error, told=odd == 1)
        if odd > 1:
            logger.warning("visibility.more_odd_records", count=odd - 1)

    def _read(self, record: Record) -> Iterable[Change]:
        if record.value is None:
            return  # a video that was deleted for good: no page shows it
        kind, name = read_key(record.key)
        if record.value.endswith(PLAIN_ENDS) and not self._hidden.set.knows(kind, name):
            return
        read = read_record(record.key, record.value)
        if read.unknown_fields:
            self._metrics.count(Metric.CATALOGUE_UNKNOWN_FIELDS, read.unknown_fields)
        for change in read.changes:
            # Of what Postgres was looked at, the limits are known, also that there are none any more.
            if not isinstance(change, Limits) or change.revision > self._revision():
                yield change

    def _bury(self, record: Record, error: ValueError, *, told: bool) -> None:
        reason = "newer" if isinstance(error, NewerSchemaError) else "malformed"
        self._metrics.count(Metric.CATALOGUE_ODD, tags=[f"reason:{reason}"])
        if told:
            place = {"partition": record.partition, "offset": record.offset}
            logger.warning("visibility.odd_record", **place, reason=reason, error=str(error))
        received = Received(
            topic=CATALOGUE_TOPIC,
            partition=record.partition,
            offset=record.offset,
            timestamp_ms=record.timestamp_ms,
            key=record.key,
            value=record.value,
            headers={},
        )
        letter = dead_letter(received, error, stage="VISIBILITY")

        def ended(durable: bool) -> None:  # noqa: FBT001  # a callback
            if not durable:
                self._publisher.publish(without_content(letter), lambda _: None)

        self._publisher.publish(letter, ended)

    def _tell(self, problem: str) -> None:
        if problem and not self._problem:
            logger.warning("visibility.topic_unreadable", error=problem)
        elif self._problem and not problem:
            logger.info("visibility.topic_readable")
        self._problem = problem
