"""Brings messages to Kafka while their callers wait."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from recsvc.profile_updates.message import TOPIC, Message
from servicekit.kafka.client import quiet_logger
from servicekit.process.periodic_thread import PeriodicThread

MAX_WAIT_S: Final = 1.0
"""Seconds that a caller waits for Kafka at most."""
AWAY_S: Final = 1.0
"""Seconds for which Kafka is not asked again after it took nothing: callers need not wait one after the other."""
POLL_S: Final = 0.1
PRODUCER: Final[Mapping[str, Any]] = {
    "client.id": "recsvc",
    "acks": "all",
    "enable.idempotence": True,
    "compression.type": "snappy",
    "partitioner": "murmur2_random",  # as of the bridge, and of Java clients
    "linger.ms": 1,
    # What is not acknowledged by then is kept on this machine.
    "delivery.timeout.ms": round(MAX_WAIT_S * 1000),
    "queue.buffering.max.messages": 1000,
    "queue.buffering.max.kbytes": 16_384,
    "reconnect.backoff.max.ms": 1000,
    "log.connection.close": False,
}

logger = structlog.get_logger(__name__)


class UpdateProducer:
    """A producer for many threads, which connects when it is first needed.

    Args:
        client: How to reach the brokers, in librdkafka's properties.
        clock: Seconds, ascending.
    """

    def __init__(self, client: Mapping[str, Any], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._current: Producer | None = None
        self._former: list[Producer] = []
        """Those whose last messages have no outcome yet."""
        self._exchanging = threading.Lock()
        self._thread: PeriodicThread | None = None
        self._away_until = -AWAY_S
        self._trouble = ""

    def send(self, message: Message, *, within_s: float) -> bool:
        """Return whether all in-sync replicas have a message.

        False after so many seconds, or `MAX_WAIT_S`; at once where Kafka took nothing a moment ago. Kafka may get the
        message even so.
        """
        if within_s <= 0 or self._clock() < self._away_until:
            return False
        outcome = _Outcome()
        try:
            self._connected().produce(
                TOPIC, message.value, message.key, headers=[*message.headers], on_delivery=outcome
            )
        except (BufferError, KafkaException) as error:
            return self._failed(str(error))
        if not outcome.ended.wait(min(within_s, MAX_WAIT_S)):
            # A caller in a hurry says nothing of Kafka.
            return within_s >= MAX_WAIT_S and self._failed("no acknowledgement in time")
        if outcome.error is not None:
            return self._failed(outcome.error.str())
        self._report("")
        return True

    def renew(self, client: Mapping[str, Any]) -> None:
        """Reach the brokers in this way from now on; what is under way keeps its connection."""
        with self._exchanging:
            self._client = client
            self._retire()
        self._away_until = self._clock()

    def stop(self) -> None:
        """End the connections; what has no outcome yet is given up."""
        if self._thread:
            self._thread.stop()
        with self._exchanging:
            self._retire()
            former, self._former = self._former, []
        for one in former:
            _close(one)

    def _connected(self) -> Producer:
        with self._exchanging:
            if self._current is None:
                callbacks = {"error_cb": self._look_for_end}
                self._current = Producer({**PRODUCER, **self._client, **callbacks}, logger=quiet_logger())
            if self._thread is None:
                self._thread = PeriodicThread(
                    "profile-updates", self._poll, interval_s=0.0, retry_s=POLL_S, waits_first=False
                )
                self._thread.start()
            return self._current

    def _retire(self) -> None:
        if self._current is not None:
            self._former.append(self._current)
            self._current = None

    def _look_for_end(self, error: KafkaError) -> None:
        """Go on with another producer where this one can never send again; called while it is polled."""
        if error.fatal():
            with self._exchanging:
                self._retire()

    def _poll(self) -> None:
        with self._exchanging:
            current, former = self._current, [*self._former]
        for one in former:
            one.poll(0)
            if not len(one):
                with self._exchanging, suppress(ValueError):  # `stop` took it
                    self._former.remove(one)
                _close(one)
        if current is not None:
            current.poll(POLL_S)
        elif self._thread:
            self._thread.wait(POLL_S)

    def _failed(self, trouble: str) -> bool:
        self._away_until = self._clock() + AWAY_S
        self._report(trouble)
        return False

    def _report(self, trouble: str) -> None:
        """Log a change of the state, once."""
        if trouble and not self._trouble:
            logger.warning("profile_updates.not_sent", problem=trouble)
        elif self._trouble and not trouble:
            logger.info("profile_updates.sent")
        self._trouble = trouble


class _Outcome:
    """The outcome of one message, which the polling thread sets."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.error: KafkaError | None = None

    def __call__(self, error: KafkaError | None, _: Any) -> None:
        self.error = error
        self.ended.set()


def _close(producer: Producer) -> None:
    with suppress(KafkaException):
        producer.purge()  # closing would wait for what is queued
        producer.close()
