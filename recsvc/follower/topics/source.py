"""Messages of partitions that are assigned by hand, from offsets that the caller knows: no group, nothing committed."""

from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition

from recsvc.follower.topics.gathering import Place
from servicekit.kafka.client import quiet_logger

CHUNK: Final = 1000
"""Messages that are taken at once; their objects live together."""
CONSUMER: Final[Mapping[str, Any]] = {
    "client.id": "recsvc",
    "group.id": "recsvc",  # demanded by the client; never joined, as partitions are assigned by hand
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",  # what retention has taken
    "enable.partition.eof": False,
    "fetch.wait.max.ms": 50,
    "fetch.min.bytes": 1,
    "fetch.max.bytes": 8 << 20,  # of one answer; a client waits for one of each broker
    "max.partition.fetch.bytes": 1 << 20,
    "queued.max.messages.kbytes": 16 << 10,
    "queued.min.messages": 20_000,
    "fetch.queue.backoff.ms": 10,  # at the bounds above reading would pause for a second
    "reconnect.backoff.max.ms": 1000,
    "socket.timeout.ms": 10_000,  # a broker that hangs is left for another one
    "topic.metadata.refresh.interval.ms": 30_000,
    "log.connection.close": False,
}


class SourceError(Exception):
    """The client cannot go on by itself, as when it cannot sign in; nothing is lost."""


class Source:
    """Reads from the brokers. For one thread.

    Args:
        client: How to reach them, in librdkafka's properties; KafkaException where it is no way.
    """

    def __init__(self, client: Mapping[str, Any]) -> None:
        self._consumer = Consumer({**CONSUMER, **client}, logger=quiet_logger())
        self._next: dict[Place, int] = {}
        self.trouble = ""
        """What the brokers told last instead of messages."""

    def assign(self, places: Mapping[Place, int]) -> None:
        """Read these partitions from these offsets."""
        self._next = dict(places)
        self._consumer.assign([TopicPartition(*place, offset) for place, offset in places.items()])

    def read(self, timeout_s: float) -> list[Any]:
        """Wait for messages, and return some that have come; none after the time, or where there is trouble.

        SourceError where the client's callbacks raise: what was taken from its queue comes again.
        """
        try:
            first = self._consumer.poll(timeout_s)
            found = [] if first is None else [first, *self._consumer.consume(CHUNK, 0)]
        except Exception as error:
            self.assign(self._next)
            raise SourceError(f"{type(error).__name__}: {error}") from error
        good = []
        for message in found:
            if told := message.error():
                self.trouble = told.str()
                continue
            good.append(message)
            self._next[message.topic() or "", message.partition() or 0] = (message.offset() or 0) + 1
        if good:
            self.trouble = ""
        return good

    def close(self) -> None:
        """Close the connections to the brokers."""
        self._consumer.close()
