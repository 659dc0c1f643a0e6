"""Messages on their way to a real Kafka, one that is away, and one that comes back."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from deploy.local.kafka.mock import MockKafka
from recsvc.domain.interaction import Interaction, InteractionType
from recsvc.profile_updates.message import Message, erasure_message, update_message
from recsvc.profile_updates.producer import MAX_WAIT_S, UpdateProducer
from servicekit.process.ports import free_port
from tests.recsvc.support.topics import messages_of
from tests.support.polling import wait_for

pytestmark = pytest.mark.peer

LONG_S: Final = 3600.0
UNUSABLE: Final = {"security.protocol": "ssl", "ssl.ca.location": "/nowhere"}


def liked(user_id: str, video_id: str = "v1") -> Message:
    return update_message(user_id, [Interaction(video_id, InteractionType.LIKE, 1)], told_ms=2)


@pytest.fixture
def user() -> str:
    return f"user-{uuid4()}"


@pytest.fixture
def producer(kafka_bootstrap: str) -> Iterator[UpdateProducer]:
    one = UpdateProducer({"bootstrap.servers": kafka_bootstrap})
    yield one
    one.stop()


def sent(producer: UpdateProducer, message: Message) -> bool:
    """Send a message as soon as a slow machine's Kafka takes any."""
    return wait_for(lambda: producer.send(message, within_s=LONG_S), what="a message taken")


def test_what_was_acknowledged_is_in_the_topic_in_order(
    producer: UpdateProducer, kafka_bootstrap: str, user: str
) -> None:
    messages = [liked(user), erasure_message(user, at_ms=3), liked(user, "v2")]

    for message in messages:
        assert sent(producer, message)

    found = messages_of(kafka_bootstrap, user)
    assert [one for at, one in enumerate(found) if at == 0 or one != found[at - 1]] == messages


def test_nothing_is_connected_before_it_is_needed(kafka_bootstrap: str) -> None:
    before = threading.active_count()

    producer = UpdateProducer({"bootstrap.servers": kafka_bootstrap})
    producer.renew({"bootstrap.servers": kafka_bootstrap})
    producer.stop()

    assert threading.active_count() == before


def test_many_callers_share_a_connection(producer: UpdateProducer, kafka_bootstrap: str, user: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda number: sent(producer, liked(user, f"v{number}")), range(40)))

    assert {one.value for one in messages_of(kafka_bootstrap, user)} == {
        liked(user, f"v{number}").value for number in range(40)
    }


def test_a_caller_without_time_is_not_kept_waiting(producer: UpdateProducer, user: str) -> None:
    assert not producer.send(liked(user), within_s=0)
    assert not producer.send(liked(user), within_s=-1)


def test_while_kafka_is_away_one_caller_waits_and_the_others_do_not(user: str) -> None:
    """It is told of once; and after a while somebody tries again."""
    now = [100.0]
    producer = UpdateProducer({"bootstrap.servers": f"127.0.0.1:{free_port()}"}, clock=lambda: now[0])
    try:
        with capture_logs() as logs:
            assert not producer.send(liked(user), within_s=LONG_S)
            assert not any(producer.send(liked(user), within_s=LONG_S) for _ in range(500))  # MAX_WAIT_S each else
            now[0] += 2 * MAX_WAIT_S
            assert not producer.send(liked(user), within_s=LONG_S)
    finally:
        producer.stop()

    assert [log["event"] for log in logs] == ["profile_updates.not_sent"]


def test_kafka_takes_messages_again_when_it_is_back(tmp_path: Path, user: str) -> None:
    kafka = MockKafka(tmp_path / "kafka")
    producer = UpdateProducer({"bootstrap.servers": kafka.start()})
    assert kafka.child
    try:
        sent(producer, liked(user))
        kafka.child.suspend()
        wait_for(lambda: not producer.send(liked(user, "v2"), within_s=LONG_S), what="a message not taken")
        kafka.child.resume()
        sent(producer, liked(user, "v3"))
    finally:
        producer.stop()
        kafka.stop()


def test_credentials_are_renewed_under_way(producer: UpdateProducer, kafka_bootstrap: str, user: str) -> None:
    """Also after some with which nobody could connect; what was acknowledged is there."""
    sent(producer, liked(user, "v1"))
    producer.renew({"bootstrap.servers": kafka_bootstrap, "client.id": "another"})
    sent(producer, liked(user, "v2"))
    producer.renew({"bootstrap.servers": kafka_bootstrap, **UNUSABLE})
    assert not producer.send(liked(user, "v3"), within_s=LONG_S)
    producer.renew({"bootstrap.servers": kafka_bootstrap})
    sent(producer, liked(user, "v4"))

    found = {one.value for one in messages_of(kafka_bootstrap, user)}
    assert found == {liked(user, name).value for name in ("v1", "v2", "v4")}
