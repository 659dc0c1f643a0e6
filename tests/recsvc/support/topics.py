"""What stands in a topic of a test's broker."""

import time
from typing import Any
from uuid import uuid4

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from recsvc.profile_updates.message import TOPIC, Message

TIMEOUT_S = 20


def messages_of(bootstrap: str, user_id: str, *, topic: str = TOPIC) -> list[Message]:
    """Return the messages of a user that are in a topic now, in order."""
    config: dict[str, Any] = {
        "bootstrap.servers": bootstrap,
        "group.id": f"group-{uuid4()}",
        "enable.auto.commit": False,
        "log_level": 0,
    }
    consumer = Consumer(config)
    try:
        partitions = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions
        ends = {}
        for number in partitions:
            place = TopicPartition(topic, number)
            low, high = consumer.get_watermark_offsets(place, timeout=TIMEOUT_S)
            if high > low:
                ends[number] = high
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in ends])
        found: list[Message] = []
        deadline = time.monotonic() + TIMEOUT_S
        while ends and time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is None or message.error():
                continue
            if (message.offset() or 0) + 1 >= ends.get(message.partition() or 0, 0):
                ends.pop(message.partition() or 0, None)
            if message.key() == user_id.encode():
                headers: Any = message.headers() or []
                found.append(Message(user_id.encode(), message.value(), headers))
        assert not ends, "the topic's end was not reached"
        return found
    finally:
        consumer.close()
