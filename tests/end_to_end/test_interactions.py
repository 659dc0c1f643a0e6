"""An interaction ends up in Postgres and in Kafka, once."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self, cast
from uuid import UUID, uuid4

import grpc
import psycopg
import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from tests.support.polling import wait_for
from tests.support.system import System

TOPIC: Final = "feed.interactions.v1"


@dataclass(frozen=True, slots=True)
class Received:
    """A message: its JSON value and its headers."""

    value: dict[str, Any]
    headers: dict[str, str]

    @classmethod
    def of(cls, message: Message) -> Self:
        """Decode a message."""
        headers = cast("list[tuple[str, bytes]]", message.headers())
        value = json.loads(cast("bytes", message.value()))
        return cls(value, {name: text.decode() for name, text in headers})


class Messages:
    """An independent consumer's view of the topic, from the moment that it was made."""

    def __init__(self, bootstrap: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": uuid4().hex, "log_level": 0})
        partitions = self._consumer.list_topics(TOPIC, timeout=10).topics[TOPIC].partitions
        ends = [TopicPartition(TOPIC, partition) for partition in partitions]
        for one in ends:
            one.offset = self._consumer.get_watermark_offsets(one, timeout=10)[1]
        self._consumer.assign(ends)
        self._seen: list[Message] = []

    def of(self, key: str) -> list[Received]:
        """Return the messages with this key that have arrived by now."""
        self._seen += [message for message in self._consumer.consume(100, timeout=0.2) if not message.error()]
        return [Received.of(message) for message in self._seen if message.key() == key.encode()]

    def close(self) -> None:
        self._consumer.close()


@pytest.fixture
def messages(kafka_bootstrap: str) -> Iterator[Messages]:
    consumer = Messages(kafka_bootstrap)
    yield consumer
    consumer.close()


@pytest.fixture
def user() -> str:
    return f"user-{uuid4().hex}"


def rows(system: System, user: str) -> list[dict[str, Any]]:
    query = "SELECT * FROM user_interactions WHERE user_id = %s"
    with psycopg.connect(system.env["DATABASE_URL"], row_factory=psycopg.rows.dict_row) as connection:
        return connection.execute(query, [user]).fetchall()


def iso(instant: datetime) -> str:
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_an_interaction_reaches_postgres_and_kafka(system: System, messages: Messages, user: str) -> None:
    """Key, exactly five fields, and everything else in headers."""
    event_id, happened = str(uuid4()), datetime.now(UTC).replace(microsecond=123_000)
    page = system.feed(user_id=user).message
    video = page["videos"][0]
    reply = system.record(
        event_id=event_id,
        user_id=user,
        video_id=video["video_id"],
        interaction_type="INTERACTION_TYPE_WATCH",
        watch_time=4250,
        timestamp=iso(happened),
        recommendation={
            "feed_session_id": page["feed_session_id"],
            "algorithm": page["algorithm"],
            "model_version": page["model_version"],
            "experiment_variant_id": "variant-b",
            "recommendation_score": video["score"],
        },
    )
    assert reply.message == {"event_id": event_id, "status": "ACKNOWLEDGEMENT_STATUS_ACCEPTED"}

    (row,) = rows(system, user)
    assert row["event_id"] == UUID(event_id)
    assert (row["video_id"], row["interaction_type"], row["watch_time_ms"]) == (video["video_id"], "watch", 4250)
    assert row["occurred_at"] == happened
    assert (row["feed_session_id"], row["experiment_variant_id"]) == (page["feed_session_id"], "variant-b")
    assert row["recommendation_score"] == pytest.approx(video["score"])

    (message,) = wait_for(lambda: messages.of(user))
    assert message.value == {
        "userId": user,
        "videoId": video["video_id"],
        "interactionType": "watch",
        "watchTime": 4250,
        "timestamp": iso(happened),
    }
    assert message.headers == {
        "event-id": event_id,
        "feed-session-id": page["feed_session_id"],
        "algorithm": page["algorithm"],
        "model-version": page["model_version"],
        "experiment-variant-id": "variant-b",
        "recommendation-score": message.headers["recommendation-score"],
    }
    assert float(message.headers["recommendation-score"]) == pytest.approx(video["score"])


def test_the_same_event_again_is_a_duplicate(system: System, messages: Messages, user: str) -> None:
    """It makes neither a second row nor a second message; a marker behind it proves that none is on its way."""
    event = {"event_id": str(uuid4()), "user_id": user, "video_id": "v1", "interaction_type": "INTERACTION_TYPE_LIKE"}
    statuses = [system.record(**event).message["status"] for _ in range(3)]
    assert statuses == ["ACKNOWLEDGEMENT_STATUS_ACCEPTED", *2 * ["ACKNOWLEDGEMENT_STATUS_DUPLICATE"]]
    system.record(user_id=user, video_id="marker", interaction_type="INTERACTION_TYPE_LIKE")
    wait_for(lambda: any(message.value["videoId"] == "marker" for message in messages.of(user)))
    assert len(messages.of(user)) == len(rows(system, user)) == 2


def test_an_event_without_an_id_gets_one(system: System, messages: Messages, user: str) -> None:
    reply = system.record(user_id=user, video_id="v1", interaction_type="INTERACTION_TYPE_SHARE").message
    (row,) = rows(system, user)
    assert UUID(reply["event_id"]) == row["event_id"]
    (message,) = wait_for(lambda: messages.of(user))
    assert message.headers["event-id"] == reply["event_id"]
    assert message.value["watchTime"] == 0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"user_id": ""}, "interaction.user_id"),
        ({"video_id": "x" * 129}, "interaction.video_id"),
        ({"interaction_type": "INTERACTION_TYPE_UNSPECIFIED"}, "interaction.interaction_type"),
        ({"interaction_type": 99}, "interaction.interaction_type"),
        ({"event_id": "not-a-uuid"}, "interaction.event_id"),
        ({"watch_time": -1}, "interaction.watch_time"),
        ({"timestamp": iso(datetime.now(UTC) + timedelta(days=365))}, "interaction.timestamp"),
        ({"timestamp": iso(datetime.now(UTC) - timedelta(days=365))}, "interaction.timestamp"),
        ({"interaction_type": "INTERACTION_TYPE_RATING"}, "interaction.rating"),
        ({"interaction_type": "INTERACTION_TYPE_SEARCH"}, "interaction.search_query"),
    ],
)
def test_a_bad_field_is_named_and_nothing_is_kept(
    system: System, user: str, change: dict[str, Any], field: str
) -> None:
    good = {"user_id": user, "video_id": "v1", "interaction_type": "INTERACTION_TYPE_WATCH"}
    refused = system.record(**good | change)
    assert (refused.code, refused.bad_fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field])
    assert rows(system, user) == []
