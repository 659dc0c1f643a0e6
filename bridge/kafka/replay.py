"""Lists the dead letters of Kafka's topic, and replays them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Producer as LibrdkafkaProducer

from bridge.kafka.consumer import CONSUMER, readable_headers
from bridge.kafka.dead_letters import PREFIX
from bridge.kafka.message import DEAD_LETTER_TOPIC
from bridge.kafka.producer import PRODUCER
from bridge.kafka.topics import USER_TOPICS
from servicekit.kafka.client import quiet_logger

GROUP: Final = "bridge-replay"
TIMEOUT_S: Final = 15.0
READ_S: Final = 1.0
BATCH: Final = 500
TOPICS: Final = frozenset(USER_TOPICS)
"""Topics that letters may go to: what a letter says of its own is anybody's word."""
REPEATED: Final = (
    KafkaError._TIMED_OUT,  # noqa: SLF001  # public constants of librdkafka
    KafkaError._MSG_TIMED_OUT,  # noqa: SLF001  # likewise
    KafkaError._TRANSPORT,  # noqa: SLF001  # likewise
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001  # likewise
    KafkaError._QUEUE_FULL,  # noqa: SLF001  # likewise
    KafkaError._PURGE_QUEUE,  # noqa: SLF001  # likewise
    KafkaError._PURGE_INFLIGHT,  # noqa: SLF001  # likewise
    KafkaError.NOT_ENOUGH_REPLICAS,
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
)
"""Failures that are not the letter's."""


class ReplayError(Exception):
    """The brokers do not answer, or refuse; the message is for people."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Letter:
    """A dead letter in the topic.

    Attributes:
        key: Its key, of which nothing is known.
        value: Its bytes; None for a tombstone.
        headers: Those of the message, without what was added about its death.
        context: What was added: `topic`, `partition`, `offset`, `stage`, `exception.class.name`, `exception.message`.
    """

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, str | bytes | None], ...]
    context: Mapping[str, str]

    @property
    def place(self) -> str:
        """Return the topic, partition and offset of its origin, for people."""
        return "/".join(self.context.get(name, "?") for name in ("topic", "partition", "offset"))


@dataclass(slots=True)
class Replayed:
    """The outcome of a replay: the number of letters in their topics again, and why others are dead letters again."""

    sent: int = 0
    refused: dict[str, str] = field(default_factory=dict)


class DeadLetterTopic:
    """The dead letters that were not replayed yet.

    Args:
        config: How to reach the brokers.
        topic: Where the letters are.
        group: Consumer group whose offsets say what was replayed.
    """

    def __init__(self, config: Mapping[str, Any], *, topic: str = DEAD_LETTER_TOPIC, group: str = GROUP) -> None:
        self._config = dict(config)
        self._topic = topic
        self._group = group
        self._replayed = Replayed()

    async def show(self, most: int) -> tuple[list[Letter], int]:
        """Return the first letters, and the number of all."""
        return await asyncio.to_thread(self._settle, most, send=False)

    async def replay(self) -> Replayed:
        """Send all letters to their topics of origin, and set those aside once more that their topics refuse."""
        self._replayed = Replayed()
        await asyncio.to_thread(self._settle, 0, send=True)
        return self._replayed

    def _settle(self, most: int, *, send: bool) -> tuple[list[Letter], int]:
        consumer = Consumer({**CONSUMER, **self._config, "group.id": self._group}, logger=quiet_logger())
        try:
            places = self._unread(consumer)
            ends = {place.partition: end for place, end in places}
            consumer.assign([place for place, _ in places])
            shown: list[Letter] = []
            count = 0
            while ends:
                letters = self._read(consumer, ends)
                count += len(letters)
                shown += letters[: max(0, most - len(shown))]
                if send and letters:
                    self._send(letters)
                    consumer.commit(asynchronous=False)
        except KafkaException as error:
            raise ReplayError(error.args[0].str()) from None
        finally:
            consumer.close()
        return shown, count

    def _unread(self, consumer: Consumer) -> list[tuple[TopicPartition, int]]:
        """Return the begin and the end of the unread offsets of each partition that has some."""
        known = consumer.list_topics(self._topic, timeout=TIMEOUT_S).topics[self._topic].partitions
        places = consumer.committed([TopicPartition(self._topic, number) for number in known], timeout=TIMEOUT_S)
        found = []
        for place in places:
            low, high = consumer.get_watermark_offsets(place, timeout=TIMEOUT_S)
            place.offset = max(low, place.offset)
            if place.offset < high:
                found.append((place, high))
        return found

    def _read(self, consumer: Consumer, ends: dict[int, int]) -> list[Letter]:
        """Return the next letters; remove each end that is reached."""
        letters = []
        for message in consumer.consume(BATCH, READ_S):
            error = message.error()
            if error:
                raise KafkaException(error)
            end = ends.get(_number(message.partition()), 0)
            if _number(message.offset()) < end:
                letters.append(_letter(message))
            if _number(message.offset()) + 1 >= end:
                ends.pop(_number(message.partition()), None)
        return letters

    def _send(self, letters: Sequence[Letter]) -> None:
        """Send letters to their topics, and send refused ones to this topic again, with the reason."""
        producer = LibrdkafkaProducer({**PRODUCER, **self._config}, logger=quiet_logger())
        refused: dict[int, KafkaError] = {}
        for number, letter in enumerate(letters):
            topic = letter.context.get("topic", "")
            if topic not in TOPICS:
                refused[number] = KafkaError(KafkaError._UNKNOWN_TOPIC)  # noqa: SLF001  # a public constant
            else:
                _produce(producer, topic, letter, letter.headers, partial(_note, refused, number))
        _flush(producer)
        lost = {letters[number]: error for number, error in refused.items() if error.code() not in REPEATED}
        if len(lost) < len(refused):  # the brokers are in trouble, not the letters: a later replay sends them all
            raise KafkaException(next(error for error in refused.values() if error.code() in REPEATED))
        failed: dict[int, KafkaError] = {}
        for number, (letter, error) in enumerate(lost.items()):
            context = {**letter.context, "exception.class.name": "ReplayError", "exception.message": error.str()}
            headers = [*letter.headers, *((f"{PREFIX}{name}", text.encode()) for name, text in context.items())]
            _produce(producer, self._topic, letter, headers, partial(_note, failed, number))
        _flush(producer)
        if failed:
            raise KafkaException(failed.popitem()[1])
        self._replayed.sent += len(letters) - len(lost)
        self._replayed.refused |= {letter.place: error.str() for letter, error in lost.items()}


def _produce(
    producer: LibrdkafkaProducer, topic: str, letter: Letter, headers: Sequence[Any], ended: Callable[[Any, Any], None]
) -> None:
    try:
        producer.produce(topic, key=letter.key, value=letter.value, headers=[*headers], on_delivery=ended)
    except KafkaException as error:
        ended(error.args[0], None)
    except BufferError:
        ended(KafkaError(KafkaError._QUEUE_FULL), None)  # noqa: SLF001  # a public constant


def _note(failed: dict[int, KafkaError], number: int, error: KafkaError | None, _: Any) -> None:
    if error is not None:
        failed[number] = error


def _flush(producer: LibrdkafkaProducer) -> None:
    if producer.flush(TIMEOUT_S):
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001  # a public constant


def _letter(message: Any) -> Letter:
    headers = readable_headers(message) or ()  # of one that cannot be read nobody knows where it came from
    return Letter(
        key=message.key(),
        value=message.value(),
        headers=tuple((name, value) for name, value in headers if not name.startswith(PREFIX)),
        context={
            name.removeprefix(PREFIX): (value or b"").decode("utf-8", "replace")
            for name, value in headers
            if name.startswith(PREFIX)
        },
    )


def _number(value: int | None) -> int:
    return -1 if value is None else value
