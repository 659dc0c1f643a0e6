"""Interactions through gRPC into real Postgres and Kafka."""

import asyncio
import os
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from google.protobuf.timestamp_pb2 import Timestamp

from bridge.postgres.migrate import MIGRATIONS
from servicekit.telemetry.metrics import connect_metrics
from tests.bridge.support.ingestion import Ingestion, running_ingestion
from tests.bridge.support.recording import ACCEPTED, DUPLICATE, new_event, published_of, record_one
from tests.bridge.support.waiting import until
from tests.support.dogstatsd import DogStatsdServer
from videowindow.feed.v1 import interaction_pb2 as pb

ROOT = Path(__file__).parents[3]


async def test_interaction_reaches_both(ingestion: Ingestion, kafka_bootstrap: str) -> None:
    """The row holds everything; the message has the five fields, and the rest as headers."""
    user = f"user-{uuid4()}"
    when = datetime.now(UTC).replace(microsecond=123_000) - timedelta(hours=1)
    stamp = Timestamp()
    stamp.FromDatetime(when)
    event = new_event(
        user,
        timestamp=stamp,
        recommendation=pb.RecommendationContext(
            feed_session_id="s1", algorithm="lightfm-warp", model_version="m1", recommendation_score=0.25
        ),
        metadata={"app": "ios", "ü": "\u2028"},
    )
    reply = await record_one(ingestion, event)
    assert (reply.event_id, reply.status) == (event.event_id, ACCEPTED)
    ((row, metadata),) = await ingestion.rows(
        "SELECT (video_id, interaction_type, watch_time_ms, occurred_at, feed_session_id, algorithm, model_version,"
        " experiment_variant_id, recommendation_score)::text, metadata FROM user_interactions WHERE user_id = %s",
        user,
    )
    shown = when.strftime("%Y-%m-%d %H:%M:%S.123+00")
    assert row == f'(v1,watch,1500,"{shown}",s1,lightfm-warp,m1,,0.25)'
    assert metadata == {"app": "ios", "ü": "\u2028"}
    (record,) = await published_of(ingestion, kafka_bootstrap, user)
    assert record.value == {
        "userId": user,
        "videoId": "v1",
        "interactionType": "watch",
        "watchTime": 1500,
        "timestamp": when.strftime("%Y-%m-%dT%H:%M:%S.123Z"),
    }
    assert record.headers == {
        "event-id": event.event_id,
        "feed-session-id": "s1",
        "algorithm": "lightfm-warp",
        "model-version": "m1",
        "recommendation-score": "0.25",
        "metadata": '{"app":"ios","ü":"\u2028"}',
    }


async def test_repeat_is_recognised(ingestion: Ingestion, kafka_bootstrap: str) -> None:
    """Sent again, one after the other or all at once, an event makes one row and one message."""
    user = f"user-{uuid4()}"
    event = new_event(user)
    replies = [await record_one(ingestion, event) for _ in range(2)]
    assert [reply.status for reply in replies] == [ACCEPTED, DUPLICATE]
    other = new_event(user, interaction_type=pb.INTERACTION_TYPE_LIKE)
    together = await asyncio.gather(*[record_one(ingestion, other) for _ in range(40)])
    assert Counter(reply.status for reply in together) == {ACCEPTED: 1, DUPLICATE: 39}
    assert {reply.event_id for reply in together} == {other.event_id}
    rows = await ingestion.rows("SELECT event_id::text FROM user_interactions WHERE user_id = %s", user)
    assert sorted(row[0] for row in rows) == sorted([event.event_id, other.event_id])
    records = await published_of(ingestion, kafka_bootstrap, user)
    assert [record.headers["event-id"] for record in records] == [event.event_id, other.event_id]


async def test_event_id_is_made_when_absent(ingestion: Ingestion, kafka_bootstrap: str) -> None:
    user = f"user-{uuid4()}"
    replies = [await record_one(ingestion, new_event(user, event_id="")) for _ in range(2)]
    assert [reply.status for reply in replies] == [ACCEPTED, ACCEPTED]
    records = await published_of(ingestion, kafka_bootstrap, user)
    assert [record.headers["event-id"] for record in records] == [reply.event_id for reply in replies]


async def test_every_type_has_its_name(ingestion: Ingestion, kafka_bootstrap: str) -> None:
    user = f"user-{uuid4()}"
    names = ["impression", "watch", "complete", "like", "unlike", "follow", "comment", "share", "favorite", "rating",
             "search", "skip", "hide"]  # fmt: skip
    for number, name in enumerate(names, start=1):
        extra: dict[str, Any] = {"rating": 4.5} if name == "rating" else {}
        extra |= {"search_query": "kätzchen"} if name == "search" else {}
        await record_one(ingestion, new_event(user, interaction_type=number, **extra))
    records = await published_of(ingestion, kafka_bootstrap, user)
    assert [record.value["interactionType"] for record in records] == names
    rows = await ingestion.rows(
        "SELECT rating, search_query FROM user_interactions WHERE user_id = %s AND interaction_type IN"
        " ('rating', 'search') ORDER BY interaction_type",
        user,
    )
    assert rows == [(4.5, None), (None, "kätzchen")]


async def test_order_of_each_user_is_kept(ingestion: Ingestion, kafka_bootstrap: str) -> None:
    """Twenty users at once, each acting one after the other: their messages keep that order, and none is lost."""
    users = [f"user-{uuid4()}" for _ in range(20)]

    async def act(user: str) -> None:
        for number in range(25):
            await record_one(ingestion, new_event(user, watch_time=number))

    await asyncio.gather(*map(act, users))
    records = await published_of(ingestion, kafka_bootstrap, *users)
    for user in users:
        assert [record.value["watchTime"] for record in records if record.key == user] == list(range(25))


async def test_partition_is_that_of_java_clients(ingestion: Ingestion, kafka_bootstrap: str) -> None:
    users = [f"user-{uuid4()}" for _ in range(12)]
    await asyncio.gather(*[record_one(ingestion, new_event(user)) for user in users])
    records = await published_of(ingestion, kafka_bootstrap, *users)
    assert {record.key: record.partition for record in records} == {
        user: (_murmur2(user.encode()) & 0x7FFFFFFF) % 6 for user in users
    }


def _murmur2(data: bytes) -> int:
    """Kafka's `Utils.murmur2`."""
    mix, mask = 0x5BD1E995, 0xFFFFFFFF
    state = 0x9747B28C ^ len(data)
    whole = len(data) // 4 * 4
    for start in range(0, whole, 4):
        k = int.from_bytes(data[start : start + 4], "little") * mix & mask
        k = (k ^ k >> 24) * mix & mask
        state = (state * mix & mask) ^ k
    tail = data[whole:]
    if tail:
        state = (state ^ int.from_bytes(tail, "little")) * mix & mask
    state = (state ^ state >> 13) * mix & mask
    return state ^ state >> 15


async def test_metrics(own_database: str, kafka_bootstrap: str, dogstatsd: DogStatsdServer) -> None:
    metrics = connect_metrics(dogstatsd.host, dogstatsd.port, service="bridge")
    async with running_ingestion(own_database, kafka_bootstrap, metrics=metrics) as running:
        event = new_event(f"user-{uuid4()}")
        for _ in range(2):
            await record_one(running, event)
        await until(lambda: dogstatsd.packets("feed.interactions.publish_latency"))
        await until(lambda: dogstatsd.packets("feed.interactions.recorded", "status:duplicate"))
        await until(lambda: dogstatsd.packets("feed.interactions.recorded", "status:accepted"))
        await until(lambda: dogstatsd.packets("feed.interactions.outbox_depth"))
    metrics.close()


async def test_instances_may_migrate_together(own_database: str) -> None:
    command = [sys.executable, "-m", "bridge", "migrate"]
    environment = {**os.environ, "DATABASE_URL": own_database}
    started = [await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment) for _ in range(3)]
    assert [await process.wait() for process in started] == [0, 0, 0]
    with psycopg.connect(own_database) as connection:
        assert connection.execute("SELECT * FROM bridge_schema_version").fetchall() == [(_head(),)]


def _head() -> str:
    return max(path.name[:4] for path in (MIGRATIONS / "versions").glob("0*.py"))
