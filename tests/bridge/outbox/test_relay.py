"""The relay's promise of order, with faults where it looks, sends and remembers."""

import asyncio
import json
from contextlib import suppress
from uuid import uuid4

import psycopg
import pytest

from bridge.kafka.message import INTERACTIONS_TOPIC, Message
from bridge.outbox.outbox import Accepted
from bridge.outbox.table import RELAY_LOCK
from bridge.postgres.pool import Connection, DatabaseUnavailableError
from deploy.local.kafka.mock import MockKafka
from deploy.local.postgres import Postgres
from tests.bridge.support.events import drained, event, published, record
from tests.bridge.support.ingestion import Ingestion, running_ingestion
from tests.bridge.support.waiting import until
from videowindow.feed.v1 import interaction_pb2 as pb

IMPATIENT = {"delivery.timeout.ms": 1000, "request.timeout.ms": 900, "linger.ms": 0}


async def _leave_behind(connection: Connection, user: str, *, age: str = "1 minute", event_id: str = "") -> None:
    """Add an outbox row as a bridge would have that died before it published; its watch time is 0."""
    event_id = event_id or str(uuid4())
    value = {"userId": user, "videoId": "v1", "interactionType": "watch", "watchTime": 0, "timestamp": "x"}
    await connection.execute(
        "INSERT INTO interactions_outbox (id, aggregatetype, aggregateid, type, payload, headers, created_at)"
        " VALUES (%s, %s, %s, 'watch', %s, %s, now() - %s::interval)",
        [event_id, INTERACTIONS_TOPIC, user, json.dumps(value), json.dumps({"event-id": event_id}), age],
    )


async def _watch_times(running: Ingestion, bootstrap: str, user: str) -> list[int]:
    """Return the watch times of a user's messages, each where it first came, once all are published."""
    records = await published(running, bootstrap, INTERACTIONS_TOPIC, user)
    return list(dict.fromkeys(one.value["watchTime"] for one in records))


@pytest.mark.parametrize("others", [0, 150])
async def test_leftovers_are_not_overtaken_when_postgres_goes_too(
    others: int, own_postgres: Postgres, own_kafka: MockKafka
) -> None:
    """What a look at the outbox has shown is sent before later events, also where Kafka took none of it then.

    Neither that many rows were before it counts, nor that an event of this process was left to the relay earlier.
    """
    user = f"user-{uuid4()}"
    url, bootstrap = own_postgres.url("videowindow"), own_kafka.bootstrap
    async with running_ingestion(url, bootstrap, options=IMPATIENT, order_wait_s=60) as running:
        outbox = running.outbox
        assert outbox is not None
        async with running.database.connection() as other:
            await other.execute("SELECT pg_advisory_xact_lock(%s)", [RELAY_LOCK])
            async with running.database.connection() as dead:
                for number in range(others):
                    await _leave_behind(dead, f"other-{number}")
                await _leave_behind(dead, user)
            await record(running, event(user, watch_time=1))
            assert own_kafka.child is not None
            own_kafka.child.suspend()
        await until(lambda: outbox.scanned, timeout_s=30)
        assert own_postgres.child is not None
        own_postgres.child.kill()
        own_kafka.child.resume()
        await record(running, event(user, watch_time=2))
        own_postgres.start()
        assert await _watch_times(running, bootstrap, user) == [0, 1, 2]


async def test_repeat_of_what_another_bridge_left_is_not_overtaken(
    own_postgres: Postgres, kafka_bootstrap: str
) -> None:
    """Who moves to this bridge with an event that the last one has not published finds it before the next event."""
    user = f"user-{uuid4()}"
    async with running_ingestion(own_postgres.url("videowindow"), kafka_bootstrap, order_wait_s=60) as running:
        outbox = running.outbox
        assert outbox is not None
        await until(lambda: outbox.scanned, timeout_s=30)
        repeated = event(user, watch_time=0)
        with suppress(psycopg.Error, DatabaseUnavailableError):
            async with running.database.connection() as other:
                await other.execute("SELECT pg_advisory_xact_lock(%s)", [RELAY_LOCK])
                async with running.database.connection() as dead:
                    await _leave_behind(dead, user, event_id=repeated.event_id)
                    await dead.execute("INSERT INTO interaction_ids (event_id) VALUES (%s)", [repeated.event_id])
                assert (await record(running, repeated)).status == pb.ACKNOWLEDGEMENT_STATUS_DUPLICATE
                assert own_postgres.child is not None
                own_postgres.child.kill()
        await record(running, event(user, watch_time=1))
        own_postgres.start()
        assert await _watch_times(running, kafka_bootstrap, user) == [0, 1]


async def test_message_that_fails_during_a_look_is_not_overtaken(own_database: str, own_kafka: MockKafka) -> None:
    """Rows behind one that was on its way when the look began wait for it, should it come back meanwhile."""
    user = f"user-{uuid4()}"
    # The first is in Kafka's hands, the second in librdkafka's, and the third finds no room there; a look begins before
    # they fail.
    options = {
        **IMPATIENT,
        "delivery.timeout.ms": 4000,
        "queue.buffering.max.messages": 2,
        "max.in.flight.requests.per.connection": 1,
    }
    async with running_ingestion(own_database, own_kafka.bootstrap, options=options) as running:
        outbox = running.outbox
        assert outbox is not None
        await record(running, event(user, watch_time=0))
        await drained(running)
        assert own_kafka.child is not None
        own_kafka.child.suspend()
        try:
            for number in (1, 2, 3):
                await record(running, event(user, watch_time=number))
            async with running.database.connection() as other:
                await other.execute("UPDATE interactions_outbox SET created_at = now() - interval '1 minute'")
            async with running.database.connection() as other:
                await other.execute("LOCK TABLE interactions_outbox")  # looks begin, and wait
                await until(lambda: outbox.sent_count == 0, timeout_s=20)
                own_kafka.child.resume()
        finally:
            own_kafka.child.resume()
        assert await _watch_times(running, own_kafka.bootstrap, user) == [0, 1, 2, 3]


async def test_commit_under_way_is_waited_for(own_database: str, kafka_bootstrap: str) -> None:
    """A row that another connection has committed, of which this process has yet to hear, is not overtaken."""
    first, second = uuid4(), uuid4()
    async with running_ingestion(own_database, kafka_bootstrap) as running:
        outbox = running.outbox
        assert outbox is not None
        assert outbox.begin_commit([first]) == {first}
        message = Message(
            event_id=second, topic=INTERACTIONS_TOPIC, key="u", kind="watch", value="{}", headers={"event-id": "e"}
        )
        outbox.send_committed([Accepted(message, 0)], {second: [first]})
        assert outbox.left_to_relay() == [second]
        assert outbox.is_held(first)
        assert not outbox.is_held(second)


async def test_what_others_have_sent_is_forgotten(own_database: str, kafka_bootstrap: str) -> None:
    """Memory holds what is in the outbox, and no more, though that is never empty for a moment."""
    user = f"user-{uuid4()}"
    async with running_ingestion(own_database, kafka_bootstrap) as running:
        outbox, relay = running.outbox, running.relay
        assert outbox is not None
        assert relay is not None
        async with running.database.connection() as other:
            await other.execute("SELECT pg_advisory_xact_lock(%s)", [RELAY_LOCK])
            async with running.database.connection() as dead:
                await _leave_behind(dead, user)
                await _leave_behind(dead, "busy", age="-1 hour")
            first, second = event(user), event(user)
            await record(running, first)
            await record(running, second)
            assert [str(one) for one in outbox.left_to_relay()] == [first.event_id, second.event_id]
            async with running.database.connection() as another_process:
                await another_process.execute("DELETE FROM interactions_outbox WHERE id = %s", [first.event_id])
            await relay._report()
            assert [str(one) for one in outbox.left_to_relay()] == [second.event_id]
            await asyncio.sleep(0)
