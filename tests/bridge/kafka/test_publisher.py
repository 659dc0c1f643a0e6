"""What producers and readers promise where threads meet, and where messages cannot even be queued."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import KafkaError, KafkaException
from structlog.testing import capture_logs

from bridge.kafka.consumer import KafkaReader
from bridge.kafka.message import INTERACTIONS_TOPIC, UNRECORDED, Message
from bridge.kafka.producer import PRODUCER, Producer
from bridge.kafka.publisher import KafkaPublisher
from deploy.local.kafka.mock import MockKafka
from tests.bridge.support.waiting import until


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


class _Interrupted:
    """librdkafka's producer, where something happens in another thread just before each message is queued."""

    def __init__(self, inner: Any, happens: Callable[[], None]) -> None:
        self._inner = inner
        self._happens = happens

    def produce(self, *arguments: Any, **options: Any) -> None:
        self._happens()
        self._inner.produce(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def test_nothing_slips_in_behind_a_failure(own_kafka: MockKafka) -> None:
    """A failure of which the polling thread hears while a message is being queued takes that message with it."""
    producer = Producer({**PRODUCER, "bootstrap.servers": own_kafka.bootstrap}, lambda _: None)
    inner = producer._producer
    outcomes: list[bool] = []

    def fail() -> None:
        producer._end(-1, KafkaError(KafkaError._MSG_TIMED_OUT))

    try:
        await producer.knows(INTERACTIONS_TOPIC, 10)
        producer._producer = _Interrupted(inner, fail)  # type: ignore[assignment]  # it stands in for it
        producer.produce(_message(1), outcomes.append)
        await until(lambda: outcomes)
        producer._producer = inner
        producer.produce(_message(2), outcomes.append)
        await until(lambda: len(outcomes) == 2)
    finally:
        producer._producer = inner
        await producer.close(flush_s=1)
    assert outcomes == [False, True]


async def test_replaced_producer_holds_up_nobody(own_kafka: MockKafka) -> None:
    """Librdkafka's threads, which take most of a second to end, have ended before the garbage collector finds it."""
    before = librdkafka_threads()
    producer = Producer({**PRODUCER, "bootstrap.servers": own_kafka.bootstrap}, lambda _: None)
    await producer.knows(INTERACTIONS_TOPIC, 10)
    assert own_kafka.child is not None
    own_kafka.child.suspend()
    try:
        producer.produce(_message(1), lambda _: None)
        assert librdkafka_threads() - before
        await producer.retire()
        assert not librdkafka_threads() - before
    finally:
        own_kafka.child.resume()


def librdkafka_threads() -> set[str]:
    """Return the threads of this process that librdkafka started."""
    names = {task.name: task / "comm" for task in Path("/proc/self/task").iterdir()}
    return {number for number, comm in names.items() if comm.exists() and comm.read_text().startswith("rdk:")}


async def test_reader_closes_after_a_reading_that_was_given_up(kafka_bootstrap: str) -> None:
    """A cancelled reading goes on in its thread, and librdkafka must not be gone under it."""
    reader = KafkaReader(
        {"bootstrap.servers": kafka_bootstrap}, [INTERACTIONS_TOPIC], group=f"g-{uuid4()}", header=UNRECORDED
    )
    reading = asyncio.create_task(reader.read())
    await until(reader._reading.locked)
    reading.cancel()
    await reader.close()
    assert not reader._reading.locked()


async def test_reader_says_what_keeps_messages_away(kafka_bootstrap: str) -> None:
    """Once, as it would otherwise wait in silence for ever."""
    topic = f"missing-{uuid4()}"
    with capture_logs() as logs:
        reader = KafkaReader({"bootstrap.servers": kafka_bootstrap}, [topic], group=f"g-{uuid4()}", header=UNRECORDED)
        try:
            for _ in range(60):
                await reader.read()
                if logs:
                    break
            await reader.read()
        finally:
            await reader.close()
    assert [log["event"] for log in logs] == ["kafka.not_reading"]
