"""Interactions through gRPC into real Postgres and Kafka."""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from bridge.kafka.message import INTERACTIONS_TOPIC
from bridge.outbox.table import RELAY_LOCK
from bridge.postgres.migrate import MIGRATIONS
from bridge.postgres.pool import Connection
from deploy.local.kafka.mock import MockKafka
from deploy.local.postgres import Postgres
from servicekit.telemetry.metrics import connect_metrics
from tests.bridge.support.ingestion import Ingestion, running_ingestion
from tests.bridge.support.topic import Record, read_topic
from tests.bridge.support.waiting import until
from tests.support.dogstatsd import DogStatsdServer
from videowindow.feed.v1 import interaction_pb2 as pb

ROOT = Path(__file__).parents[3]
ACCEPTED, DUPLICATE = pb.ACKNOWLEDGEMENT_STATUS_ACCEPTED, pb.ACKNOWLEDGEMENT_STATUS_DUPLICATE


@pytest.fixture(scope="module")
async def ingestion(postgres_url: str, kafka_bootstrap: str) -> AsyncIterator[Ingestion]:
    async with running_ingestion(postgres_url, kafka_bootstrap) as running:
        yield running


@pytest.fixture
def own_database(postgres_server: Postgres) -> str:
    """A database that no other relay looks at."""
    return postgres_server.create_database(f"test_{uuid4().hex}")


def _event(user: str, **fields: Any) -> pb.Interaction:
    defaults = {"event_id": str(uuid4()), "user_id": user, "video_id": "v1", "watch_time": 1500}
    return pb.Interaction(**{**defaults, "interaction_type": pb.INTERACTION_TYPE_WATCH, **fields})


async def _record(ingestion: Ingestion, event: pb.Interaction) -> pb.RecordInteractionResponse:
    reply: pb.RecordInteractionResponse = await ingestion.stub.RecordInteraction(
        pb.RecordInteractionRequest(interaction=event), timeout=10
    )
    return reply


async def _drained(ingestion: Ingestion, *, timeout_s: float = 20) -> None:
    """Return once Kafka has acknowledged everything."""
    deadline = time.monotonic() + timeout_s
    while await ingestion.depth():
        assert time.monotonic() < deadline, "the outbox did not drain"
        await asyncio.sleep(0.02)


async def _published(ingestion: Ingestion, bootstrap: str, *users: str) -> list[Record]:
    await _drained(ingestion)
    return await asyncio.to_thread(read_topic, bootstrap, INTERACTIONS_TOPIC, set(users))


async def test_interaction_reaches_both(ingestion: Ingestion, kafka_bootstrap: str) -> None:
    """The row holds everything; the message has the five fields, and the rest as headers."""
    user = f"user-{uuid4()}"
    when = datetime.now(UTC).replace(microsecond=123_000) - timedelta(hours=1)
    stamp = Timestamp()
    stamp.FromDatetime(when)
    event = _event(
        user,
        timestamp=stamp,
        recommendation=pb.RecommendationContext(
            feed_session_id="s1", algorithm="lightfm-warp", model_version="m1", recommendation_score=0.25
        ),
        metadata={"app": "ios", "ü": "\u2028"},
    )
    reply = await _record(ingestion, event)
    assert (reply.event_id, reply.status) == (event.event_id, ACCEPTED)
    ((row, metadata),) = await ingestion.rows(
        "SELECT (video_id, interaction_type, watch_time_ms, occurred_at, feed_session_id, algorithm, model_version,"
        " experiment_variant_id, recommendation_score)::text, metadata FROM user_interactions WHERE user_id = %s",
        user,
    )
    shown = when.strftime("%Y-%m-%d %H:%M:%S.123+00")
    assert row == f'(v1,watch,1500,"{shown}",s1,lightfm-warp,m1,,0.25)'
    assert metadata == {"app": "ios", "ü": "\u2028"}
    (record,) = await _published(ingestion, kafka_bootstrap, user)
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
    event = _event(user)
    replies = [await _record(ingestion, event) for _ in range(2)]
    assert [reply.status for reply in replies] == [ACCEPTED, DUPLICATE]
    other = _event(user, interaction_type=pb.INTERACTION_TYPE_LIKE)
    together = await asyncio.gather(*[_record(ingestion, other) for _ in range(40)])
    assert Counter(reply.status for reply in together) == {ACCEPTED: 1, DUPLICATE: 39}
    assert {reply.event_id for reply in together} == {other.event_id}
    rows = await ingestion.rows("SELECT event_id::text FROM user_interactions WHERE user_id = %s", user)
    assert sorted(row[0] for row in rows) == sorted([event.event_id, other.event_id])
    records = await _published(ingestion, kafka_bootstrap, user)
    assert [record.headers["event-id"] for record in records] == [event.event_id, other.event_id]


async def test_event_id_is_made_when_absent(ingestion: Ingestion, kafka_bootstrap: str) -> None:
    user = f"user-{uuid4()}"
    replies = [await _record(ingestion, _event(user, event_id="")) for _ in range(2)]
    assert [reply.status for reply in replies] == [ACCEPTED, ACCEPTED]
    records = await _published(ingestion, kafka_bootstrap, user)
    assert [record.headers["event-id"] for record in records] == [reply.event_id for reply in replies]


async def test_every_type_has_its_name(ingestion: Ingestion, kafka_bootstrap: str) -> None:
    user = f"user-{uuid4()}"
    names = ["impression", "watch", "complete", "like", "unlike", "follow", "comment", "share", "favorite", "rating",
             "search", "skip", "hide"]  # fmt: skip
    for number, name in enumerate(names, start=1):
        extra: dict[str, Any] = {"rating": 4.5} if name == "rating" else {}
        extra |= {"search_query": "kätzchen"} if name == "search" else {}
        await _record(ingestion, _event(user, interaction_type=number, **extra))
    records = await _published(ingestion, kafka_bootstrap, user)
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
            await _record(ingestion, _event(user, watch_time=number))

    await asyncio.gather(*map(act, users))
    records = await _published(ingestion, kafka_bootstrap, *users)
    for user in users:
        assert [record.value["watchTime"] for record in records if record.key == user] == list(range(25))


async def test_partition_is_that_of_java_clients(ingestion: Ingestion, kafka_bootstrap: str) -> None:
    users = [f"user-{uuid4()}" for _ in range(12)]
    await asyncio.gather(*[_record(ingestion, _event(user)) for user in users])
    records = await _published(ingestion, kafka_bootstrap, *users)
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


async def test_relay_publishes_what_a_crash_left_behind(ingestion: Ingestion, kafka_bootstrap: str) -> None:
    """Rows that nobody published, as after a kill between commit and publish, are sent in their order."""
    user = f"user-{uuid4()}"
    async with ingestion.database.connection() as connection:
        for number in range(5):
            await _leave_behind(connection, user, number)
    records = await _published(ingestion, kafka_bootstrap, user)
    assert [record.value["watchTime"] for record in records] == list(range(5))
    assert records[0].headers["algorithm"] == "lightfm-warp"


async def test_later_event_waits_for_what_was_left_behind(ingestion: Ingestion, kafka_bootstrap: str) -> None:
    """A user's new event does not overtake an older one that the relay has yet to send."""
    user = f"user-{uuid4()}"
    async with ingestion.database.connection() as other:
        await other.execute("SELECT pg_advisory_xact_lock(%s)", [RELAY_LOCK])
        async with ingestion.database.connection() as dead:
            await _leave_behind(dead, user, 0)
        for number in range(1, 4):
            await _record(ingestion, _event(user, watch_time=number))
    records = await _published(ingestion, kafka_bootstrap, user)
    assert [record.value["watchTime"] for record in records] == list(range(4))


async def _leave_behind(connection: Connection, user: str, number: int) -> None:
    """Add an outbox row as a bridge would have a minute ago that died before it published."""
    value = {"userId": user, "videoId": "v1", "interactionType": "watch", "watchTime": number, "timestamp": "x"}
    event_id = uuid4()
    headers = {"event-id": str(event_id), "algorithm": "lightfm-warp"}
    await connection.execute(
        "INSERT INTO interactions_outbox (id, aggregatetype, aggregateid, type, payload, headers, created_at)"
        " VALUES (%s, %s, %s, 'watch', %s, %s, now() - interval '1 minute')",
        [event_id, INTERACTIONS_TOPIC, user, json.dumps(value), json.dumps(headers)],
    )


async def test_relay_stays_below_running_transactions(ingestion: Ingestion, kafka_bootstrap: str) -> None:
    """A row that commits late is not overtaken by rows that were inserted after it."""
    user = f"user-{uuid4()}"
    async with ingestion.database.connection() as slow:
        await _leave_behind(slow, user, 0)
        async with ingestion.database.connection() as quick:
            await _leave_behind(quick, user, 1)
        assert ingestion.relay is not None
        assert await ingestion.relay.relay_batch() == 0
        assert await ingestion.depth() == 1
    records = await _published(ingestion, kafka_bootstrap, user)
    assert [record.value["watchTime"] for record in records] == [0, 1]


async def test_one_relay_at_a_time(ingestion: Ingestion, kafka_bootstrap: str) -> None:
    user = f"user-{uuid4()}"
    assert ingestion.relay is not None
    async with ingestion.database.connection() as other:
        await other.execute("SELECT pg_advisory_xact_lock(%s)", [RELAY_LOCK])
        async with ingestion.database.connection() as dead:
            await _leave_behind(dead, user, 0)
        assert await ingestion.relay.relay_batch() == 0
    assert len(await _published(ingestion, kafka_bootstrap, user)) == 1


async def test_without_kafka_postgres_keeps_everything(own_database: str) -> None:
    async with running_ingestion(own_database, None) as running:
        event = _event("u1")
        assert (await _record(running, event)).status == ACCEPTED
        assert (await _record(running, event)).status == DUPLICATE
        assert await running.rows("SELECT count(*) FROM user_interactions") == [(1,)]
        assert await running.depth() == 0


async def test_kafka_hangs(own_database: str, own_kafka: MockKafka) -> None:
    """While Kafka hangs, events are acknowledged as ever; afterwards each is there, in its user's order."""
    user = f"user-{uuid4()}"
    options = {"delivery.timeout.ms": 1000, "request.timeout.ms": 900, "linger.ms": 0}
    async with running_ingestion(own_database, own_kafka.bootstrap, options=options) as running:
        await _record(running, _event(user, watch_time=0))
        await _drained(running)
        assert own_kafka.child is not None
        own_kafka.child.suspend()
        try:
            for number in range(1, 6):
                started = time.monotonic()
                assert (await _record(running, _event(user, watch_time=number))).status == ACCEPTED
                assert time.monotonic() - started < 1
            assert running.outbox is not None
            await until(lambda: running.outbox and running.outbox.sent_count == 0, timeout_s=20)
            for number in range(6, 9):
                await _record(running, _event(user, watch_time=number))
        finally:
            own_kafka.child.resume()
        await _drained(running, timeout_s=40)
        records = await asyncio.to_thread(read_topic, own_kafka.bootstrap, INTERACTIONS_TOPIC, {user})
        first_seen = list(dict.fromkeys(record.value["watchTime"] for record in records))
        assert first_seen == list(range(9))


async def test_kafka_away_at_the_start(own_database: str) -> None:
    async with running_ingestion(own_database, "127.0.0.1:1") as running:
        assert (await _record(running, _event(f"user-{uuid4()}"))).status == ACCEPTED
        assert await running.depth() == 1


async def test_metrics(own_database: str, kafka_bootstrap: str, dogstatsd: DogStatsdServer) -> None:
    metrics = connect_metrics(dogstatsd.host, dogstatsd.port, service="bridge")
    async with running_ingestion(own_database, kafka_bootstrap, metrics=metrics) as running:
        event = _event(f"user-{uuid4()}")
        for _ in range(2):
            await _record(running, event)
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
