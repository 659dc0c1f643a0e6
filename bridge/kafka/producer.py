"""Wraps one librdkafka producer with the thread that polls it.

The classic producer, not confluent_kafka's AIOProducer: that one refuses headers and batches for seconds.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from itertools import count
from typing import Any, Final, Self, TypeAlias

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Producer as LibrdkafkaProducer

from bridge.kafka.message import Message
from servicekit.kafka.client import quiet_logger
from servicekit.process.periodic_thread import PeriodicThread

Done: TypeAlias = Callable[[bool], None]
"""Told on the event loop whether all in-sync replicas have the message."""

POLL_S: Final = 0.1
RETIRE_S: Final = 2.0
PURGED: Final = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)  # noqa: SLF001  # public constants of librdkafka
IDENTITY_INTERVAL_MS: Final = 250
"""How often the producer tells whether it has its identity, without which idempotent messages wait."""
CONFINED: Final = (
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001  # likewise
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001  # likewise
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.TOPIC_EXCEPTION,
)
"""Failures that say nothing of messages to other topics."""
REFUSED: Final = (
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_MSG_SIZE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.TOPIC_EXCEPTION,  # a name that no topic can have
)
"""Failures that trying again does not mend, of a message or of another one in its batch."""
PRODUCER: Final[Mapping[str, Any]] = {
    "client.id": "bridge",
    "acks": "all",
    "enable.idempotence": True,
    "compression.type": "snappy",
    # As Java clients do it, so that consumers may join topics by key.
    "partitioner": "murmur2_random",
    "linger.ms": 5,
    # What is not acknowledged by then is left to the outbox.
    "delivery.timeout.ms": 10_000,
    # A topic that does not exist is told from brokers that do not answer.
    "topic.metadata.propagation.max.ms": 3000,
    "queue.buffering.max.messages": 50_000,
    "queue.buffering.max.kbytes": 65_536,
    "reconnect.backoff.max.ms": 1000,
    "log.connection.close": False,
}


class Producer:
    """Sends messages from one event loop, and reports each outcome there.

    Args:
        config: Properties of librdkafka.
        noted: Called with each outcome, None for success, before the message's own `done`.
        confined: Failures after which other messages may go on.
        loop: The event loop, where it is made in another thread: certificates are read as it is made.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        noted: Callable[[KafkaError | None], None],
        *,
        confined: Collection[int] = CONFINED,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._noted = noted
        self._confined = {*PURGED, *confined}
        self._loop = loop or asyncio.get_running_loop()
        self._numbers = count()
        self._pending: dict[int, Done] = {}
        self._ended: deque[tuple[int, KafkaError | None]] = deque()
        self._retired = False
        self._failing = threading.Event()
        self.identified = asyncio.Event()
        """Set once it has its identity, so that a message no longer waits for that."""
        self.broken = False
        """Whether it can never send again."""
        callbacks = {
            "statistics.interval.ms": IDENTITY_INTERVAL_MS,
            "stats_cb": self._look_for_identity,
            "error_cb": self._look_for_end,
        }
        self._producer = LibrdkafkaProducer({**config, **callbacks}, logger=quiet_logger())
        self._thread = PeriodicThread(
            "kafka-poll",
            self._poll,
            interval_s=0,
            retry_s=POLL_S,
            waits_first=False,
            stop_within_s=threading.TIMEOUT_MAX,
        )
        self._thread.start()

    @classmethod
    async def make(
        cls,
        config: Mapping[str, Any],
        noted: Callable[[KafkaError | None], None],
        *,
        confined: Collection[int] = CONFINED,
    ) -> Self:
        """Return a new producer, without blocking the event loop; KafkaException for invalid properties."""
        loop = asyncio.get_running_loop()
        return await asyncio.to_thread(cls, config, noted, confined=confined, loop=loop)

    @property
    def pending(self) -> int:
        """Return the number of messages without an outcome."""
        return len(self._pending)

    def produce(self, message: Message, done: Done) -> None:
        """Queue a message; BufferError when the queue is full, KafkaException when it cannot be sent now."""
        if self._retired or self._failing.is_set():
            raise KafkaException(KafkaError(KafkaError._FAIL))  # noqa: SLF001  # a public constant of librdkafka
        content = _encoded(message)
        number = next(self._numbers)
        self._producer.produce(
            message.topic,
            **content,
            on_delivery=lambda error, _: self._end(number, error),
        )
        self._pending[number] = done
        if self._failing.is_set():  # since a moment ago, and what was purged then was without this message
            self._producer.purge(blocking=False)

    async def knows(self, topic: str, timeout_s: float) -> bool:
        """Fetch the partitions of a topic; return whether that worked."""
        try:
            await asyncio.to_thread(self._producer.list_topics, topic, timeout_s)
        except KafkaException:
            return False
        return True

    async def close(self, *, flush_s: float) -> int:
        """Wait for acknowledgements until the time is over; return the number of unacknowledged messages."""
        self._retired = True
        with suppress(KafkaException):  # it can never send again
            await asyncio.to_thread(self._producer.flush, flush_s)
        await asyncio.to_thread(self._thread.stop)
        self._settle()
        left = [*self._pending.values()]
        self._pending.clear()
        for done in left:
            done(False)  # noqa: FBT003  # the callback's only argument
        await asyncio.to_thread(self._destroy)
        return len(left)

    async def retire(self) -> None:
        """Fail all messages at once, even those that brokers may yet get, and end; nothing can be sent any more."""
        self._retired = True
        await asyncio.to_thread(self._producer.purge)  # it waits for the threads of the connections
        await self.close(flush_s=RETIRE_S)

    def _destroy(self) -> None:
        """Destroy librdkafka's producer, which takes most of 1 s: the garbage collector would block all else for it."""
        with suppress(KafkaException):
            self._producer.purge()  # closing would wait for what is queued
            self._producer.close()

    def _poll(self) -> None:
        try:
            self._producer.poll(POLL_S)
        except KafkaException:  # it can never send again; what is queued is reported nevertheless
            self.broken = True
            self._thread.wait(POLL_S)
        if self._ended:
            self._loop.call_soon_threadsafe(self._settle)

    def _end(self, number: int, error: KafkaError | None) -> None:
        """Record the outcome of a message, in the polling thread.

        Nothing may arrive that was behind a failure: what is queued fails too, and nothing is taken in before the
        outcome of everything is known.
        """
        if error is not None and error.code() not in self._confined:
            self._failing.set()
            self._producer.purge(blocking=False)
        self._ended.append((number, error))

    def _settle(self) -> None:
        while self._ended:
            number, error = self._ended.popleft()
            done = self._pending.pop(number, None)
            if done is None:
                continue  # it was given up at the end
            if not self._pending:
                self._failing.clear()
            self._noted(error)
            done(error is None)

    def _look_for_identity(self, statistics: str) -> None:
        if '"idemp_state":"Assigned"' in statistics.replace(" ", "") and not self.identified.is_set():
            self._loop.call_soon_threadsafe(self.identified.set)

    def _look_for_end(self, error: KafkaError) -> None:
        self.broken = self.broken or error.fatal()


def _encoded(message: Message) -> dict[str, Any]:
    """Return key, value and headers as bytes; KafkaException for half of a surrogate pair.

    No text of Postgres holds one, but its JSON does. The client would end the process for one in a header's name.
    """
    try:
        return {
            "key": message.key.encode(),
            "value": None if message.value is None else message.value.encode(),
            "headers": [(name.encode().decode(), value.encode()) for name, value in message.headers.items()],
        }
    except UnicodeEncodeError as error:
        refusal = KafkaError(KafkaError.INVALID_RECORD, f"no UTF-8: {error.reason}")
        raise KafkaException(refusal) from None
