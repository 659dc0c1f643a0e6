"""What a crash or an outage of Kafka left in the outbox is published, in order and once."""

import asyncio
import json
import time
from uuid import uuid4

from bridge.kafka.message import INTERACTIONS_TOPIC
from bridge.outbox.table import RELAY_LOCK
from bridge.postgres.pool import Connection
from deploy.local.kafka.mock import MockKafka
from tests.bridge.support.ingestion import Ingestion, running_ingestion
from tests.bridge.support.recording import ACCEPTED, DUPLICATE, all_drained, new_event, published_of, record_one
from tests.bridge.support.topic import read_topic
from tests.bridge.support.waiting import until


async def test_relay_publishes_what_a_crash_left_behind(ingestion: Ingestion, kafka_bootstrap: str) -> None:
    """Rows that nobody published, as after a kill between commit and publish, are sent in their order."""
    user = f"user-{uuid4()}"
    async with ingestion.database.connection() as connection:
        for number in range(5):
            await _leave_behind(connection, user, number)
    records = await published_of(ingestion, kafka_bootstrap, user)
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
            await record_one(ingestion, new_event(user, watch_time=number))
    records = await published_of(ingestion, kafka_bootstrap, user)
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
    records = await published_of(ingestion, kafka_bootstrap, user)
    assert [record.value["watchTime"] for record in records] == [0, 1]


async def test_one_relay_at_a_time(ingestion: Ingestion, kafka_bootstrap: str) -> None:
    user = f"user-{uuid4()}"
    assert ingestion.relay is not None
    async with ingestion.database.connection() as other:
        await other.execute("SELECT pg_advisory_xact_lock(%s)", [RELAY_LOCK])
        async with ingestion.database.connection() as dead:
            await _leave_behind(dead, user, 0)
        assert await ingestion.relay.relay_batch() == 0
    assert len(await published_of(ingestion, kafka_bootstrap, user)) == 1


async def test_without_kafka_postgres_keeps_everything(own_database: str) -> None:
    async with running_ingestion(own_database, None) as running:
        event = new_event("u1")
        assert (await record_one(running, event)).status == ACCEPTED
        assert (await record_one(running, event)).status == DUPLICATE
        assert await running.rows("SELECT count(*) FROM user_interactions") == [(1,)]
        assert await running.depth() == 0


async def test_kafka_hangs(own_database: str, own_kafka: MockKafka) -> None:
    """While Kafka hangs, events are acknowledged as ever; afterwards each is there, in its user's order."""
    user = f"user-{uuid4()}"
    options = {"delivery.timeout.ms": 1000, "request.timeout.ms": 900, "linger.ms": 0}
    async with running_ingestion(own_database, own_kafka.bootstrap, options=options) as running:
        await record_one(running, new_event(user, watch_time=0))
        await all_drained(running)
        assert own_kafka.child is not None
        own_kafka.child.suspend()
        try:
            for number in range(1, 6):
                started = time.monotonic()
                assert (await record_one(running, new_event(user, watch_time=number))).status == ACCEPTED
                assert time.monotonic() - started < 1
            assert running.outbox is not None
            await until(lambda: running.outbox and running.outbox.sent_count == 0, timeout_s=20)
            for number in range(6, 9):
                await record_one(running, new_event(user, watch_time=number))
        finally:
            own_kafka.child.resume()
        await all_drained(running, timeout_s=40)
        records = await asyncio.to_thread(read_topic, own_kafka.bootstrap, INTERACTIONS_TOPIC, {user})
        first_seen = list(dict.fromkeys(record.value["watchTime"] for record in records))
        assert first_seen == list(range(9))


async def test_kafka_away_at_the_start(own_database: str) -> None:
    async with running_ingestion(own_database, "127.0.0.1:1") as running:
        assert (await record_one(running, new_event(f"user-{uuid4()}"))).status == ACCEPTED
        assert await running.depth() == 1
