"""The dead letters of Kafka's topic, seen and sent again."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Producer as LibrdkafkaProducer

from bridge.dead_letter import PREFIX
from bridge.kafka_reader import CONSUMER
from bridge.message import DEAD_LETTER_TOPIC
from bridge.producer import PRODUCER
from servicekit.kafka import quiet_logger

GROUP: Final = "bridge-replay"
TIMEOUT_S: Final = 15.0
READ_S: Final = 1.0
BATCH: Final = 500


class ReplayError(Exception):
    """The brokers do not answer, or refuse; the message is for people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Letter:
    """A dead letter as it stands in the topic.

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


class DeadLetterTopic:
    """The letters that were not replayed yet.

    Args:
        config: How to reach the brokers.
        topic: Where the letters are.
        group: Consumer group whose offsets say what was replayed.
    """

    def __init__(self, config: Mapping[str, Any], *, topic: str = DEAD_LETTER_TOPIC, group: str = GROUP) -> None:
        self._config = dict(config)
        self._topic = topic
        self._group = group

    async def show(self, most: int) -> tuple[list[Letter], int]:
        """Return the first letters and how many there are."""
        return await asyncio.to_thread(self._settle, most, send=False)

    async def replay(self) -> int:
        """Send all letters to the topics that they came from; return how many that were."""
        _, count = await asyncio.to_thread(self._settle, 0, send=True)
        return count

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
        """Return where to begin in each partition that has something new, and where it ends."""
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
        """Return what came next; ends that were reached are removed."""
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
        producer = LibrdkafkaProducer({**PRODUCER, **self._config}, logger=quiet_logger())
        failed: list[Any] = []

        def ended(error: Any, _: Any) -> None:
            if error is not None:
                failed.append(error)

        for letter in letters:
            topic = letter.context.get("topic")
            if topic:  # else it is somebody else's, who knows where it belongs
                headers = [*letter.headers]
                producer.produce(topic, key=letter.key, value=letter.value, headers=headers, on_delivery=ended)
        if producer.flush(TIMEOUT_S):
            failed.append(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001  # a public constant of librdkafka
        if failed:
            raise KafkaException(failed[0])


def _letter(message: Any) -> Letter:
    headers = message.headers() or ()
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
