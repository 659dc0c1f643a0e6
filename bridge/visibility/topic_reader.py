"""Reads every partition of the catalogue's topic, from offsets that the reader itself keeps: each bridge reads all."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from bridge.kafka.topics import CATALOGUE_TOPIC
from servicekit.kafka.client import quiet_logger

BATCH: Final = 500
WAIT_S: Final = 0.5
ANSWER_S: Final = 1.0
"""Seconds that a broker gets to say where a partition ends."""
LOOK_S: Final = 0.5
"""Seconds between two such questions."""
CONSUMER: Final[Mapping[str, Any]] = {
    "client.id": "bridge",
    "group.id": "bridge-visibility",  # a name that librdkafka needs: no group is joined, and nothing is committed
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "earliest",
    "fetch.wait.max.ms": 100,
    "socket.timeout.ms": 10_000,
    "topic.metadata.refresh.interval.ms": 10_000,
    "reconnect.backoff.max.ms": 1000,
    "log.connection.close": False,
}


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the topic, as it was read."""

    partition: int
    offset: int
    timestamp_ms: int
    key: str
    value: bytes | None


@dataclass(slots=True)
class RecordBatch:
    """Records that one reading of the topic returned.

    Attributes:
        records: In the order of their partitions.
        offsets: The next offset of each partition that was read.
        in_step: Whether everything that the brokers had when they were asked has been read.
    """

    records: list[Record] = field(default_factory=list)
    offsets: dict[int, int] = field(default_factory=dict)
    in_step: bool = False


class TopicReader:
    """Reads the topic. Used by one thread at a time.

    Args:
        config: How to reach the brokers.
        offsets: Where to begin in each partition; others are read from their beginning.
    """

    def __init__(self, config: Mapping[str, Any], offsets: Mapping[int, int]) -> None:
        self._offsets = dict(offsets)
        self._config = config
        self._renewed = False
        self._consumer: Any = None
        self._partitions: tuple[int, ...] = ()
        self._asked_at = 0.0

    def renew(self, config: Mapping[str, Any]) -> None:
        """Reach the brokers in this way from the next reading on."""
        self._config, self._renewed = config, True

    async def read(self) -> RecordBatch:
        """Return what came next, perhaps nothing, after a moment at most; KafkaException while there is no topic."""
        return await asyncio.to_thread(self._read)

    async def close(self) -> None:
        """End the connections."""
        await asyncio.to_thread(self._close)

    def _read(self) -> RecordBatch:
        if self._renewed:
            self._renewed = False
            self._close()
        if self._consumer is None:
            self._open()
        first = self._consumer.poll(WAIT_S)
        messages = [] if first is None else [first, *self._consumer.consume(BATCH, 0)]
        batch = RecordBatch()
        for message in messages:
            self._take(message, batch)
        batch.offsets = dict(self._offsets)
        if not batch.records:
            batch.in_step = self._is_at_the_end()
        return batch

    def _open(self) -> None:
        consumer = Consumer({**CONSUMER, **self._config}, logger=quiet_logger())
        try:
            self._partitions = _partitions(consumer)
            places = [(one, self._offsets.get(one, OFFSET_BEGINNING)) for one in self._partitions]
            consumer.assign([TopicPartition(CATALOGUE_TOPIC, one, at) for one, at in places])
        except BaseException:
            consumer.close()
            raise
        self._consumer = consumer

    def _take(self, message: Any, batch: RecordBatch) -> None:
        error = message.error()
        if error is None:
            self._offsets[message.partition()] = message.offset() + 1
            key = (message.key() or b"").decode("utf-8", "replace")
            batch.records.append(
                Record(message.partition(), message.offset(), message.timestamp()[1], key, message.value())
            )
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # a public constant of librdkafka
            self._offsets[message.partition()] = message.offset()
        elif error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION):  # noqa: SLF001  # likewise
            self._close()
            raise KafkaException(error)

    def _is_at_the_end(self) -> bool:
        """Return whether the brokers, asked now and then, have nothing that was not read."""
        if time.monotonic() - self._asked_at < LOOK_S:
            return False
        self._asked_at = time.monotonic()
        for partition in self._partitions:
            place = TopicPartition(CATALOGUE_TOPIC, partition)
            try:
                _, end = self._consumer.get_watermark_offsets(place, timeout=ANSWER_S, cached=False)
            except KafkaException:
                return False
            if self._offsets.get(partition, -1) < end:
                return False
        return True

    def _close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None


def _partitions(consumer: Any) -> tuple[int, ...]:
    known = consumer.list_topics(CATALOGUE_TOPIC, timeout=ANSWER_S).topics[CATALOGUE_TOPIC]
    if known.error is not None:
        raise KafkaException(known.error)
    return tuple(sorted(known.partitions))
