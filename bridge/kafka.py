"""Messages to Kafka: an idempotent producer whose acknowledgements reach the event loop.

The classic producer with a poll thread, not confluent_kafka's AIOProducer: that one refuses headers and batches
for seconds.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from bridge.message import Message

Done: TypeAlias = Callable[[bool], None]
"""Told on the event loop whether all in-sync replicas have the message."""

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
    "reconnect.backoff.max.ms": 1000,
    "log.connection.close": False,
}

logger = structlog.get_logger(__name__)


class KafkaPublisher:
    """Publishes from one event loop. Messages of one key arrive in the order of `publish`.

    When a message fails, all behind it are failed too: otherwise a later one of its key could arrive before it.
    """

    def __init__(self, bootstrap_servers: str, *, options: Mapping[str, Any] = PRODUCER) -> None:
        quiet = logging.getLogger("librdkafka")
        quiet.addHandler(logging.NullHandler())
        quiet.propagate = False  # it repeats itself while brokers are away; `kafka.*` events tell each change once
        self._producer = Producer({"bootstrap.servers": bootstrap_servers, **options}, logger=quiet)
        self._loop = asyncio.get_running_loop()
        self._ended: deque[tuple[Done, KafkaError | None]] = deque()
        self._well = True
        self._stopping = threading.Event()
        # The producer fetches its identity, half a second of work, as soon as it is polled: before the first message.
        self._thread = threading.Thread(target=self._poll, name="kafka-poll", daemon=True)
        self._thread.start()

    def publish(self, message: Message, done: Done) -> None:
        """Send a message; `done` is called once, also when it could not even be queued."""
        try:
            self._producer.produce(
                message.topic,
                key=message.key.encode(),
                value=message.value.encode(),
                headers=[(name, value.encode()) for name, value in message.headers.items()],
                on_delivery=lambda error, _: self._ended.append((done, error)),
            )
        except (BufferError, KafkaException):
            self._loop.call_soon(done, False)  # noqa: FBT003  # the callback's only argument

    async def close(self, *, flush_s: float) -> int:
        """Wait for acknowledgements, then give up; return how many messages were not acknowledged."""
        left = await asyncio.to_thread(self._producer.flush, flush_s)
        self._stopping.set()
        await asyncio.to_thread(self._thread.join)
        self._settle()
        return left

    def _poll(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(0.1)
            if self._ended:
                self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        while self._ended:
            done, error = self._ended.popleft()
            self._note(error)
            done(error is None)

    def _note(self, error: KafkaError | None) -> None:
        if error is not None and error.code() not in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):  # noqa: SLF001  # public constants of librdkafka
            self._producer.purge(blocking=False)
        if (error is None) is not self._well:
            self._well = error is None
            if error is None:
                logger.info("kafka.acknowledging")
            else:
                logger.warning("kafka.not_acknowledging", error=error.str())
