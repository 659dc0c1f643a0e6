"""Sends records that wait on disk to Kafka, in order."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from recsvc.live_state.pending import Pending, Waiting
from servicekit.kafka.client import quiet_logger
from servicekit.process.periodic_thread import PeriodicThread
from servicekit.telemetry.metrics import Metric, Metrics

LOOK_S: Final = 1.0
AT_ONCE: Final = 500
DELIVERED_WITHIN_S: Final = 10.0
PRODUCER: Final[Mapping[str, Any]] = {
    "client.id": "recsvc",
    "acks": "all",
    "partitioner": "murmur2_random",
    "linger.ms": 5,
    "delivery.timeout.ms": round(DELIVERED_WITHIN_S * 1000),
    "queue.buffering.max.kbytes": 16 << 10,
    "reconnect.backoff.max.ms": 1000,
    "log.connection.close": False,
}
FOR_GOOD: Final = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_MSG_SIZE,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError._INVALID_ARG,  # noqa: SLF001  # the client has no other
}
"""What no further attempt changes."""

logger = structlog.get_logger(__name__)


class Relay:
    """Sends each second the records that wait. Kafka gets a record twice at worst, which changes nothing.

    Args:
        pending: What waits.
        client: How to reach the brokers, in librdkafka's properties.
        metrics: Told how much waits.
    """

    def __init__(
        self,
        pending: Pending,
        client: Mapping[str, Any],
        metrics: Metrics,
        connect: Callable[..., Producer] = Producer,
    ) -> None:
        self._pending = pending
        self._client = client
        self._metrics = metrics
        self._connect = connect
        self._at_once = AT_ONCE
        self._thread = PeriodicThread(
            "live-relay",
            self.look,
            interval_s=LOOK_S,
            waits_first=False,
            on_failure=_report,
            stop_within_s=DELIVERED_WITHIN_S,
        )

    def start(self) -> None:
        """Start the thread that sends."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread that sends."""
        self._thread.stop()

    def renew(self, client: Mapping[str, Any]) -> None:
        """Reach the brokers in this way from now on."""
        self._client = client

    def look(self) -> None:
        """Send all records that wait; KafkaException or StoreError where that does not work now."""
        self._metrics.gauge(Metric.LIVE_STATE_PENDING, len(self._pending))
        if not len(self._pending):
            return
        producer = self._connect({**PRODUCER, **self._client}, logger=quiet_logger())
        sent = 0
        while (some := self._pending.oldest(self._at_once)) and not self._thread.is_stopping:
            sent += self._send(producer, some)
        self._set_damaged_aside()
        self._metrics.gauge(Metric.LIVE_STATE_PENDING, len(self._pending))
        if sent:
            logger.info("live.relayed", records=sent)

    def _send(self, producer: Producer, some: list[Waiting]) -> int:
        """Send some records, remove those that Kafka has, and return how many those are."""
        outcomes: dict[bytes, KafkaError | None] = {}

        def told(place: bytes) -> Callable[[KafkaError | None, Any], None]:
            return lambda error, _: outcomes.update({place: error})

        for one in some:
            try:
                producer.produce(
                    one.topic, key=one.key, value=one.value, headers=[*one.headers], on_delivery=told(one.place)
                )
            except BufferError:  # the producer's room is taken: the rest is next
                break
            except KafkaException as error:  # it is refused before it is sent
                outcomes[one.place] = error.args[0]
        producer.flush(2 * DELIVERED_WITHIN_S)
        delivered = {one.place for one in some if outcomes.get(one.place, _UNKNOWN) is None}
        self._pending.remove(delivered)
        failures = [outcomes.get(one.place) or _UNKNOWN for one in some if one.place not in delivered]
        if not failures:
            self._at_once = AT_ONCE
        elif failures[0].code() not in FOR_GOOD:
            producer.purge()
            raise KafkaException(failures[0])
        elif len(some) > 1:
            self._at_once = 1  # brokers refuse a whole batch for one message
        else:
            logger.error("live.refused_by_kafka", topic=some[0].topic, problem=failures[0].str())
            self._pending.remove([some[0].place])
        return len(delivered)

    def _set_damaged_aside(self) -> None:
        """Drop the records that the disk changed, as nothing else is left once the others are sent."""
        places = self._pending.damaged(AT_ONCE)
        if places:
            logger.error("live.pending_damaged", records=len(places))
            self._metrics.count(Metric.LIVE_STATE_DAMAGED, len(places))
            self._pending.remove(places)


_UNKNOWN: Final = KafkaError(KafkaError._TIMED_OUT)  # noqa: SLF001  # the client has no other


def _report(error: Exception) -> None:
    logger.warning("live.not_relayed", problem=f"{type(error).__name__}: {error}")
