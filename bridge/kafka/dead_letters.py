"""Makes dead letters of messages that cannot be processed, for people to look at.

The headers are those of Kafka Connect's dead letter queues (KIP-298), so that its tools understand them.
"""

from dataclasses import replace
from typing import Final
from uuid import NAMESPACE_URL, uuid5

from bridge.kafka.consumer import Received
from bridge.kafka.message import DEAD_LETTER_TOPIC, Message

MAX_REASON: Final = 500
PREFIX: Final = "__connect.errors."


def dead_letter(received: Received, error: Exception, *, stage: str) -> Message:
    """Return the dead letter of a message: unchanged, with its origin and the reason in headers."""
    place = f"{received.topic}/{received.partition}/{received.offset}"
    context = {
        "topic": received.topic,
        "partition": str(received.partition),
        "offset": str(received.offset),
        "stage": stage,
        "exception.class.name": type(error).__name__,
        "exception.message": str(error)[:MAX_REASON],
    }
    return Message(
        event_id=uuid5(NAMESPACE_URL, place),
        topic=DEAD_LETTER_TOPIC,
        key=received.key,
        kind="dead-letter",
        value=None if received.value is None else received.value.decode("utf-8", "backslashreplace"),
        headers=received.headers | {f"{PREFIX}{name}": value for name, value in context.items()},
    )


def without_content(letter: Message) -> Message:
    """Return the origin and reason of a dead letter without its content, which Kafka refuses."""
    context = {name: value for name, value in letter.headers.items() if name.startswith(PREFIX)}
    return replace(letter, key="", value="", headers=context)
