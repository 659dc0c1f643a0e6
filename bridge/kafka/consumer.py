"""Reads messages from Kafka as a member of a consumer group."""

import asyncio
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException

from servicekit.kafka.client import quiet_logger

BATCH: Final = 500
WAIT_S: Final = 0.5
CONSUMER: Final[Mapping[str, Any]] = {
    "client.id": "bridge",
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    # The partitions of a process that was killed are taken over after this time.
    "session.timeout.ms": 6000,
    "heartbeat.interval.ms": 2000,
    # The longest that a rebalance waits for a member that hangs, and a member for the reply to its joining; who waits
    # longer for Postgres reads once more.
    "max.poll.interval.ms": 20_000,
    # Replies that never come, and a partition that seems to have no leader, are given up long before the minute and the
    # five minutes that librdkafka would wait.
    "socket.timeout.ms": 10_000,
    "topic.metadata.refresh.interval.ms": 10_000,
    "reconnect.backoff.max.ms": 1000,
    "log.connection.close": False,
}

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """A message as it was read.

    Attributes:
        topic: Its topic.
        partition: Its partition.
        offset: Its offset there.
        timestamp_ms: When it was sent, milliseconds since 1970.
        key: Its key as text.
        value: Its bytes; None for a tombstone.
        headers: Its headers as text; of several with one name the last.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: str
    value: bytes | None
    headers: dict[str, str]


class KafkaReader:
    """Reads topics as a member of a consumer group.

    Args:
        config: How to reach the brokers.
        topics: Their names.
        group: The consumer group.
        header: Only messages with this header, and tombstones, are returned; and those whose headers cannot be read,
            as nobody knows whether they have it, without any.
    """

    def __init__(self, config: Mapping[str, Any], topics: Iterable[str], *, group: str, header: str) -> None:
        self._header = header
        self._topics = [*topics]
        self._group = group
        self._renewed: Mapping[str, Any] | None = None
        self._consumer = self._open(config)
        self._reading = threading.Lock()
        self._problem: KafkaError | None = None

    def renew(self, config: Mapping[str, Any]) -> None:
        """Use this configuration from the next read on; uncommitted messages are read again."""
        self._renewed = config

    async def read(self) -> list[Received]:
        """Return the next messages, perhaps none, after 0.5 s at most."""
        return await asyncio.to_thread(self._read)

    def commit(self) -> None:
        """Commit, in the background, the offsets of all returned messages."""
        try:
            self._consumer.commit(asynchronous=True)
        except KafkaException:
            return  # nothing was read yet, or the group is changing; a later commit stands for this one

    async def close(self) -> None:
        """Leave the group."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._reading:  # a reading that was cancelled goes on in its thread
            self._consumer.close()

    def _read(self) -> list[Received]:
        with self._reading:
            if self._renewed is not None:
                config, self._renewed = self._renewed, None
                fresh = self._open(config)
                self._consumer.close()
                self._consumer = fresh
            messages: Sequence[Any] = self._consumer.consume(BATCH, WAIT_S)
        return [received for message in messages if (received := self._received(message)) is not None]

    def _open(self, config: Mapping[str, Any]) -> Consumer:
        consumer = Consumer({**CONSUMER, **config, "group.id": self._group}, logger=quiet_logger())
        consumer.subscribe(self._topics)
        return consumer

    def _received(self, message: Any) -> Received | None:
        self._tell(message.error())
        if message.error():
            return None
        headers, value = readable_headers(message), message.value()
        if headers is not None and value is not None and all(name != self._header for name, _ in headers):
            return None
        return Received(
            topic=message.topic(),
            partition=message.partition(),
            offset=message.offset(),
            timestamp_ms=message.timestamp()[1],
            key=_text(message.key()),
            value=value,
            headers={name: _text(content) for name, content in headers or ()},
        )

    def _tell(self, error: KafkaError | None) -> None:
        """Log once why no messages arrive, such as a missing right to read the topic."""
        if error is not None and error != self._problem:
            logger.warning("kafka.not_reading", error=error.str())
        self._problem = error


def readable_headers(message: Any) -> Sequence[tuple[str, Any]] | None:
    """Return a message's headers, which may be read once; None if a name is not valid UTF-8."""
    try:
        return message.headers() or ()
    except (SystemError, UnicodeDecodeError):  # the client raises the one because of the other
        return None


def _text(content: bytes | None) -> str:
    return (content or b"").decode("utf-8", "replace")
