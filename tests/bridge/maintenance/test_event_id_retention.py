"""Tests of the age of event identifiers."""

import asyncio
import time
from uuid import uuid4

import pytest

from bridge.ingest.acknowledgement import Acknowledgement
from bridge.ingest.commit_queue import TimeoutWheel
from bridge.ingest.recorder import RecentEvents
from bridge.maintenance.event_id_retention import CHUNK, LOCK, Retention
from tests.bridge.support.events import event, record
from tests.bridge.support.ingestion import Ingestion, running_ingestion
from videowindow.feed.v1 import interaction_pb2 as pb

DAYS = 14


async def _age(running: Ingestion, days: int) -> None:
    async with running.database.connection() as connection:
        await connection.execute(
            "UPDATE interaction_ids SET recorded_at = recorded_at - make_interval(days => %s)", [days]
        )


async def test_old_identifiers_are_forgotten(own_database: str) -> None:
    """In as many steps as it takes; young ones stay, and so does what was recorded."""
    async with running_ingestion(own_database, None) as running:
        await record(running, event("old"))
        async with running.database.connection() as connection:
            await connection.execute(
                "INSERT INTO interaction_ids (event_id) SELECT gen_random_uuid() FROM generate_series(1, %s)", [CHUNK]
            )
        await _age(running, DAYS + 1)
        young = event("young")
        await record(running, young)
        assert await Retention(running.database, time.monotonic, days=DAYS).forget() == CHUNK + 1
        assert [str(one) for (one,) in await running.rows("SELECT event_id FROM interaction_ids")] == [young.event_id]
        assert await running.rows("SELECT count(*) FROM user_interactions") == [(2,)]


async def test_one_process_forgets_at_a_time(own_database: str) -> None:
    async with running_ingestion(own_database, None) as running:
        await record(running, event("old"))
        await _age(running, DAYS + 1)
        retention = Retention(running.database, time.monotonic, days=DAYS)
        async with running.database.connection() as other:
            await other.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            assert await retention.forget() == 0
        assert await retention.forget() == 1


async def test_repeat_of_a_forgotten_event_does_no_harm(own_database: str) -> None:
    """It is taken for a new one, and still recorded once."""
    async with running_ingestion(own_database, None) as running:
        old = event("old")
        old.timestamp.GetCurrentTime()
        await record(running, old)
        async with running.database.connection() as connection:
            await connection.execute("DELETE FROM interaction_ids")
    async with running_ingestion(own_database, None) as restarted:
        assert (await record(restarted, old)).status == pb.ACKNOWLEDGEMENT_STATUS_ACCEPTED
        assert await restarted.rows("SELECT count(*) FROM user_interactions") == [(1,)]


def test_recent_events_are_bounded() -> None:
    """The latest are known, however many there were."""
    recent = RecentEvents(most=3)
    events = [uuid4().bytes for _ in range(5)]
    for one in [*events, events[-1]]:
        recent.add(one, 7)
    assert [one in recent for one in events] == [False, False, True, True, True]
    assert len(recent) == 3


async def test_expiry_ends_only_what_is_late() -> None:
    """Never after its time, and at most a tick before; what is done stays as it is."""
    expiry, loop = TimeoutWheel(), asyncio.get_running_loop()
    late, done = loop.create_future(), loop.create_future()
    begin = loop.time()
    expiry.watch(late, 0.2)
    expiry.watch(done, 0.2)
    done.set_result(Acknowledgement(uuid4(), duplicate=False))
    with pytest.raises(Exception, match="in time"):
        await late
    assert loop.time() - begin >= 0.19
    assert not done.result().duplicate
