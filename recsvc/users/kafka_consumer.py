"""What users do, read from Kafka as it happens.

Every process reads all partitions for itself, without a consumer group: each keeps its own profiles. It begins where
the live model's data end, so what was known before a restart is known again; nothing is committed.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import structlog
from confluent_kafka import OFFSET_BEGINNING, TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaException, TopicPartition

from recsvc.users.kafka_message import MalformedError, UserInteraction, parse
from servicekit.bounded import BoundedMap
from servicekit.kafka.client import quiet_logger
from servicekit.process.periodic_thread import PeriodicThread
from servicekit.telemetry.metrics import Metric, Metrics
from servicekit.user_fingerprint import user_fingerprint

TOPIC: Final = "feed.interactions.v1"
BATCH: Final = 500
POLL_S: Final = 0.2
RETRY_S: Final = 1.0
ASK_TIMEOUT_S: Final = 5.0
REMEMBERED: Final = 100_000
"""Event ids that repeated deliveries are told by."""
CONSUMER: Final[Mapping[str, Any]] = {
    "client.id": "recsvc",
    "group.id": "recsvc",  # demanded by the client; never joined, as partitions are assigned by hand
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",
    "fetch.wait.max.ms": 100,
    "reconnect.backoff.max.ms": 1000,
    "queued.max.messages.kbytes": 16_384,
    "log.connection.close": False,
}

logger = structlog.get_logger(__name__)


class InteractionConsumer:
    """Reads the topic in a thread, for as long as it lives; trouble with Kafka leaves all else alone.

    Args:
        client: How to reach the brokers, in librdkafka's properties.
        since_ms: Asked before reading where to begin, milliseconds since 1970 UTC; None to be asked again later.
        receive: Given what was read, in order for each user; called in the thread.
        metrics: Told what was read and what was malformed.
        forget: Told of tombstones: the user's fingerprint, and the time up to which all is to be forgotten.
    """

    def __init__(
        self,
        client: Mapping[str, Any],
        since_ms: Callable[[], int | None],
        receive: Callable[[Sequence[UserInteraction]], None],
        metrics: Metrics,
        *,
        forget: Callable[[Mapping[bytes, int]], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._since_ms = since_ms
        self._receive = receive
        self._forget = forget
        self._metrics = metrics
        self._recent: BoundedMap[bytes, None] = BoundedMap(REMEMBERED)
        self._trouble = ""
        self._begin_ms: int | None = None
        """The time that the first read began with."""
        self._next: dict[int, int] = {}
        """The offset after the last message that was read, by partition."""
        self._renewed = threading.Event()
        self._thread = PeriodicThread(
            "live-interactions",
            self._read_with_one_client,
            interval_s=POLL_S,
            retry_s=RETRY_S,
            waits_first=False,
            stop_within_s=ASK_TIMEOUT_S,
        )

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading."""
        self._thread.stop()

    def renew(self, client: Mapping[str, Any]) -> None:
        """Reach the brokers in this way from now on; reading goes on where it is."""
        self._client = client
        self._renewed.set()

    def _read_with_one_client(self) -> None:
        """Read until told to stop or to reach the brokers in another way; return at once while nobody knows whence."""
        if self._begin_ms is None:
            self._begin_ms = self._since_ms()
        if self._begin_ms is None:
            return
        self._renewed.clear()
        try:
            consumer = Consumer({**CONSUMER, **self._client}, logger=quiet_logger())
        except KafkaException as error:  # such as certificates that do not work
            self._report(str(error.args[0]))
            self._thread.wait(RETRY_S)
            return
        try:
            if self._assign(consumer, self._begin_ms):
                self._read(consumer)
        finally:
            consumer.close()

    def _assign(self, consumer: Consumer, since_ms: int) -> bool:
        """Go to where the time begins in each partition, or reading was; keep trying.

        Return False when told to stop, or when there are other credentials: with these it may never work.
        """
        while not (self._thread.is_stopping or self._renewed.is_set()):
            try:
                consumer.poll(0)  # which signs in to brokers that ask for a token
                places = {start.partition: start.offset for start in _starts(consumer, since_ms)} | self._next
                consumer.assign([TopicPartition(TOPIC, *place) for place in places.items()])
            except KafkaException as error:
                self._report(str(error.args[0]))
                self._thread.wait(RETRY_S)
            else:
                self._report("")
                return True
        return False

    def _read(self, consumer: Consumer) -> None:
        while not (self._thread.is_stopping or self._renewed.is_set()):
            try:
                if messages := self._messages(consumer):
                    self._receive(self._parsed(messages))
            except Exception:
                # One batch is lost rather than all that come after it.
                logger.exception("live.defect")

    def _messages(self, consumer: Consumer) -> list[Any]:
        """Wait for messages, and return what has come, none after a while or an error of the client.

        One by one: `Consumer.consume` drops what it has taken when a callback raises.
        """
        found: list[Any] = []
        try:
            message = consumer.poll(POLL_S)
            while message is not None:
                found.append(message)
                self._note_place(message)
                message = consumer.poll(0) if len(found) < BATCH else None
        except Exception as error:  # noqa: BLE001  # callbacks raise what they like; what was found is not lost to it
            self._report(f"{type(error).__name__}: {error}")
            self._thread.wait(RETRY_S)
        return found

    def _note_place(self, message: Any) -> None:
        if not message.error():
            self._next[message.partition()] = message.offset() + 1

    def _parsed(self, messages: Sequence[Any]) -> list[UserInteraction]:
        """Return the interactions of messages, after who is to be forgotten was forgotten; one that is odd is none."""
        found: list[UserInteraction] = []
        gone: dict[bytes, int] = {}
        malformed = 0
        for message in messages:
            if error := message.error():
                self._report(error.str())
                continue
            self._report("")
            try:
                self._take(message, found, gone)
            except MalformedError:
                malformed += 1
            except Exception:
                malformed += 1
                logger.exception("live.message_defect")
        if malformed:
            self._metrics.count(Metric.LIVE_MALFORMED, malformed)
            logger.warning("live.malformed", messages=malformed)
        self._metrics.count(Metric.LIVE_INTERACTIONS, len(messages))
        if gone:
            self._forget_all(gone)
        return found

    def _take(self, message: Any, found: list[UserInteraction], gone: dict[bytes, int]) -> None:
        """Add what a message tells to one of both."""
        value, headers = message.value(), dict(message.headers() or ())
        if value is None:
            mark, at_ms = _tombstone(message)
            gone[mark] = max(at_ms, gone.get(mark, at_ms))
        elif not self._is_repeated(message.key() or b"", headers):
            found.append(parse(value, headers.get("rating")))

    def _forget_all(self, marks: Mapping[bytes, int]) -> None:
        try:
            self._forget(marks)
        except OSError as error:  # it is noted with the next ones; here the users are strangers already
            logger.warning("live.forgotten_not_written", problem=str(error))

    def _is_repeated(self, user: bytes, headers: Mapping[str, bytes]) -> bool:
        """Return whether this user's event came before; one without an id never did."""
        if (named := headers.get("event-id")) is None:
            return False
        event_id = named + user  # an id counts for its user only: anybody may have sent the same
        if event_id in self._recent:
            return True
        self._recent.put(event_id, None)
        return False

    def _report(self, trouble: str) -> None:
        """Say what changed, once."""
        if trouble and trouble != self._trouble:
            logger.warning("live.not_reading", problem=trouble)
        elif self._trouble and not trouble:
            logger.info("live.reading")
        self._trouble = trouble


def _tombstone(message: Any) -> tuple[bytes, int]:
    """Return the fingerprint of the user whom a tombstone names, and its time; MalformedError without either."""
    key, (kind, at_ms) = message.key(), message.timestamp()
    if not key or kind == TIMESTAMP_NOT_AVAILABLE:
        raise MalformedError("a tombstone without a key or a time")
    user = key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)
    return user_fingerprint(user), at_ms


def _starts(consumer: Consumer, since_ms: int) -> list[TopicPartition]:
    """Return the first offset of each partition at or after a time.

    Where a partition holds nothing as late, or the broker cannot tell, all of it is read: what is older changes little.
    """
    topic = consumer.list_topics(TOPIC, timeout=ASK_TIMEOUT_S).topics[TOPIC]
    if topic.error:
        raise KafkaException(topic.error)
    asked = [TopicPartition(TOPIC, number, since_ms) for number in topic.partitions]
    found = consumer.offsets_for_times(asked, timeout=ASK_TIMEOUT_S)
    return [TopicPartition(TOPIC, one.partition, one.offset if one.offset >= 0 else OFFSET_BEGINNING) for one in found]
