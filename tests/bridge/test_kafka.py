"""The publisher's promise of order, where messages cannot even be queued."""

from collections.abc import Callable
from uuid import uuid4

import pytest
from confluent_kafka import KafkaError, KafkaException

from bridge.kafka import KafkaPublisher
from bridge.message import INTERACTIONS_TOPIC, Message
from tests.bridge.waiting import until


def _message(number: int) -> Message:
    return Message(
        event_id=uuid4(), topic=INTERACTIONS_TOPIC, key="u", kind="watch", value=f"{number}", headers={"event-id": "e"}
    )


@pytest.mark.parametrize("failure", [BufferError("full"), KafkaException(KafkaError(KafkaError._FAIL))])
async def test_nothing_overtakes_a_failure_that_was_not_told_of(
    failure: Exception, kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a failure and its report nobody knows of it: what is published then fails, too, and is told after it."""
    publisher = KafkaPublisher({"bootstrap.servers": kafka_bootstrap})
    outcomes: list[tuple[int, bool]] = []

    def note(number: int) -> Callable[[bool], None]:
        return lambda durable: outcomes.append((number, durable))

    def refuse(*_: object) -> None:
        raise failure

    try:
        with monkeypatch.context() as broken:
            broken.setattr(publisher._producer, "produce", refuse)
            publisher.publish(_message(1), note(1))
        publisher.publish(_message(2), note(2))
        await until(lambda: len(outcomes) == 2)
        publisher.publish(_message(3), note(3))
        await until(lambda: len(outcomes) == 3)
    finally:
        await publisher.close(flush_s=5)
    assert outcomes == [(1, False), (2, False), (3, True)]
