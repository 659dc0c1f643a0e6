"""Reads a topic with a consumer that knows nothing of the bridge."""

import json
import time
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, TopicPartition


@dataclass(frozen=True, slots=True)
class Record:
    """A message as a consumer sees it."""

    key: str
    value: Any
    headers: dict[str, str]
    partition: int


def read_topic(
    bootstrap: str, topic: str, keys: Container[str], *, decode: Callable[[bytes], Any] = json.loads
) -> list[Record]:
    """Return all messages of the keys that are in the topic now; those of one key in their order."""
    options = {"group.id": "reader", "enable.auto.commit": False, "fetch.wait.max.ms": 20}
    consumer = Consumer({"bootstrap.servers": bootstrap, **options})
    try:
        numbers = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        marks = {n: consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=10) for n in numbers}
        missing = {n: high for n, (low, high) in marks.items() if high > low}
        consumer.assign([TopicPartition(topic, n, marks[n][0]) for n in missing])
        return [*_read(consumer, missing, keys, decode)]
    finally:
        consumer.close()


def _read(
    consumer: Consumer, missing: dict[int, int], keys: Container[str], decode: Callable[[bytes], Any]
) -> Iterator[Record]:
    """Yield what lies below the given offset of each partition."""
    deadline = time.monotonic() + 20
    while missing:
        assert time.monotonic() < deadline, f"partitions could not be read up to {missing}"
        message: Any = consumer.poll(0.2)
        if message is None or message.error():
            continue
        if message.offset() + 1 >= missing.get(message.partition(), 0):
            missing.pop(message.partition(), None)
        key, value = (message.key() or b"").decode(errors="replace"), message.value()
        if key not in keys:
            continue
        headers = {name: value.decode() for name, value in message.headers() or ()}
        yield Record(key, None if value is None else decode(value), headers, message.partition())
