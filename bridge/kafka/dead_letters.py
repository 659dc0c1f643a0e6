"""Messages that cannot be processed, as they are kept for people to look at.

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
    """Return the message for the dead letter topic: as it was, with where it came from and what is wrong with it."""
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
    """Return a dead letter that Kafka refuses as it is, with no more than where it came from and what is wrong."""
    context = {name: value for name, value in letter.headers.items() if name.startswith(PREFIX)}
    return replace(letter, key="", value="", headers=context)
