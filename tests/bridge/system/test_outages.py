"""Interactions while Postgres, Kafka, or both are away: what is acknowledged is in both in the end."""

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime
from uuid import UUID, uuid4

import psycopg
import pytest
from grpc import aio

from bridge.domain.interaction import Interaction, InteractionType
from bridge.kafka.message import INTERACTIONS_TOPIC
from deploy.local.kafka.mock import MockKafka
from deploy.local.postgres import Postgres
from tests.bridge.support.events import event, is_temporary, published, record, recorded
from tests.bridge.support.ingestion import Ingestion, running_ingestion
from tests.bridge.support.outage import ACCEPTED, DUPLICATE, timed
from tests.bridge.support.waiting import until
from videowindow.feed.v1 import interaction_pb2 as pb


async def test_postgres_killed(own_postgres: Postgres, kafka_bootstrap: str) -> None:
    """Kafka acknowledges, in order and with everything; the rows are there soon after Postgres is."""
    user = f"user-{uuid4()}"
    async with running_ingestion(own_postgres.url("videowindow"), kafka_bootstrap) as running:
        sent = [event(user, watch_time=number) for number in range(4)]
        assert (await record(running, sent[0])).status == ACCEPTED
        assert own_postgres.child is not None
        own_postgres.child.kill()
        for interaction in sent[1:]:
            assert await timed(running, interaction, most_s=2.2) == ACCEPTED
        assert (await record(running, sent[0])).status == DUPLICATE
        assert (await record(running, sent[2])).status == DUPLICATE
        rated = event(
            user,
            interaction_type=pb.INTERACTION_TYPE_RATING,
            rating=4.5,
            watch_time=4,
            recommendation=pb.RecommendationContext(
                feed_session_id="s",
                algorithm="a",
                model_version="m",
                experiment_variant_id="e",
                recommendation_score=0.1,
            ),
            metadata={"ü": "\u2028"},
        )
        await record(running, rated)
        own_postgres.start()
        ids = await recorded(running, 5, user)
        assert Counter(ids) == Counter(one.event_id for one in [*sent, rated])
        ((row, metadata),) = await running.rows(
            "SELECT (video_id, interaction_type, watch_time_ms, rating, search_query, feed_session_id, algorithm,"
            " model_version, experiment_variant_id, recommendation_score)::text, metadata FROM user_interactions"
            " WHERE event_id = %s",
            rated.event_id,
        )
        assert (row, metadata) == ("(v1,rating,4,4.5,,s,a,m,e,0.1)", {"ü": "\u2028"})
        await until(lambda: not running.away())
        assert (await record(running, event(user, watch_time=5))).status == ACCEPTED
        records = await published(running, kafka_bootstrap, INTERACTIONS_TOPIC, user)
        assert [one.value["watchTime"] for one in records] == list(range(6))


async def test_postgres_killed_under_load(own_postgres: Postgres, kafka_bootstrap: str) -> None:
    """A commit whose outcome is open keeps nobody waiting, however much order is worth; and all stays in order."""
    users = [f"user-{uuid4()}" for _ in range(8)]
    url = own_postgres.url("videowindow")
    async with running_ingestion(url, kafka_bootstrap, order_wait_s=60) as running:
        assert running.outbox is not None
        await until(lambda: running.outbox and running.outbox.scanned)
        slowest, stopping = 0.0, False

        async def act(user: str) -> int:
            nonlocal slowest
            number = 0
            while not stopping:
                started = time.monotonic()
                await record(running, event(user, watch_time=number))
                slowest = max(slowest, time.monotonic() - started)
                number += 1
            return number

        acting = [asyncio.create_task(act(user)) for user in users]
        for _ in range(3):
            await asyncio.sleep(0.3)
            assert own_postgres.child is not None
            own_postgres.child.kill()
            await asyncio.sleep(1.5)
            own_postgres.start()
            await until(lambda: not running.away(), timeout_s=20)
        stopping = True
        counts = dict(zip(users, await asyncio.gather(*acting), strict=True))
        assert slowest < 2.5
        await recorded(running, sum(counts.values()), *users)
        records = await published(running, kafka_bootstrap, INTERACTIONS_TOPIC, *users)
        for user, count in counts.items():
            times = list(dict.fromkeys(one.value["watchTime"] for one in records if one.key == user))
            assert times == list(range(count))


async def test_postgres_hangs(own_postgres: Postgres, kafka_bootstrap: str) -> None:
    """The commit that hangs is given up in time for Kafka; when it goes through later, nothing is there twice."""
    user = f"user-{uuid4()}"
    async with running_ingestion(own_postgres.url("videowindow"), kafka_bootstrap) as running:
        sent = [event(user, watch_time=number) for number in range(4)]
        await record(running, sent[0])
        assert own_postgres.child is not None
        own_postgres.child.suspend()
        try:
            assert await timed(running, sent[1], most_s=1.6) == ACCEPTED
            assert await timed(running, sent[2], most_s=0.4) == ACCEPTED
        finally:
            own_postgres.child.resume()
        assert (await record(running, sent[3])).status == ACCEPTED
        assert Counter(await recorded(running, 4, user)) == Counter(one.event_id for one in sent)
        records = await published(running, kafka_bootstrap, INTERACTIONS_TOPIC, user)
        assert list(dict.fromkeys(one.value["watchTime"] for one in records)) == list(range(4))


async def test_what_postgres_refuses_keeps_nobody_waiting(own_postgres: Postgres, kafka_bootstrap: str) -> None:
    """Who shared a commit with a refused event is acknowledged by Kafka, should Postgres hang just then."""
    bad, good = uuid4(), UUID(int=2**128 - 1, version=4)
    async with running_ingestion(own_postgres.url("videowindow"), kafka_bootstrap) as running:
        async with running.database.connection() as connection:
            await connection.execute(_OBSTACLE.format(bad=bad, good=good))
        async with running.database.connection() as other:
            await other.execute("SELECT pg_advisory_xact_lock(1)")  # which the other event's insertion waits for
            outcomes = [
                running.recorder.submit(_interaction(event_id), timeout_s=5) for event_id in (bad, good)
            ]  # at once, so that they share a commit
            _, pending = await asyncio.wait(outcomes, timeout=20)
            assert not pending
        assert isinstance(outcomes[0].exception(), psycopg.errors.RaiseException)
        assert outcomes[1].result().event_id == good


_OBSTACLE = """
CREATE FUNCTION obstruct() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.event_id = '{bad}' THEN RAISE EXCEPTION 'no'; END IF;
    IF NEW.event_id = '{good}' THEN PERFORM pg_advisory_xact_lock(1); END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER obstruct BEFORE INSERT ON interaction_ids FOR EACH ROW EXECUTE FUNCTION obstruct()
"""


def _interaction(event_id: UUID) -> Interaction:
    return Interaction(
        event_id=event_id,
        user_id="u",
        video_id="v",
        interaction_type=InteractionType.WATCH,
        occurred_at=datetime.now(UTC),
    )


async def test_long_outage_of_postgres(own_postgres: Postgres, kafka_bootstrap: str) -> None:
    """A backfill that waits so long that Kafka takes its partitions away reads them once more, and brings all of it."""
    user = f"user-{uuid4()}"
    impatient = {"max.poll.interval.ms": 6000, "log_level": 0}
    async with running_ingestion(own_postgres.url("videowindow"), kafka_bootstrap, consumer=impatient) as running:
        assert own_postgres.child is not None
        own_postgres.child.kill()
        for number in range(5):
            assert (await record(running, event(user, watch_time=number))).status == ACCEPTED
        await asyncio.sleep(9)  # what the outage lasts
        assert (await record(running, event(user, watch_time=5))).status == ACCEPTED
        own_postgres.start()
        assert len(await recorded(running, 6, user, timeout_s=30)) == 6


async def test_both_away(own_postgres: Postgres, own_kafka: MockKafka) -> None:
    """UNAVAILABLE with RetryInfo within the budget; what waited in the outbox is not overtaken afterwards."""
    user = f"user-{uuid4()}"
    options = {"delivery.timeout.ms": 1000, "request.timeout.ms": 900, "linger.ms": 0}
    url = own_postgres.url("videowindow")
    async with running_ingestion(url, own_kafka.bootstrap, options=options, budget_s=1.5) as running:
        await record(running, event(user, watch_time=0))
        assert own_kafka.child is not None
        assert own_postgres.child is not None
        own_kafka.child.suspend()
        try:
            await record(running, event(user, watch_time=1))
            assert running.outbox is not None
            await until(lambda: running.outbox and running.outbox.sent_count == 0, timeout_s=20)
            own_postgres.child.kill()
            started = time.monotonic()
            with pytest.raises(aio.AioRpcError) as caught:
                await record(running, event(user, watch_time=9))
            is_temporary(caught.value)
            assert time.monotonic() - started < 1.9
        finally:
            own_kafka.child.resume()
        last = event(user, watch_time=2)
        await _until_accepted(running, last)
        own_postgres.start()
        await recorded(running, 3, user)
        records = await published(running, own_kafka.bootstrap, INTERACTIONS_TOPIC, user)
        times = list(dict.fromkeys(one.value["watchTime"] for one in records if one.value["watchTime"] != 9))
        assert times == [0, 1, 2]


async def _until_accepted(running: Ingestion, interaction: pb.Interaction) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            await record(running, interaction)
        except aio.AioRpcError as error:
            is_temporary(error)
            assert time.monotonic() < deadline, "Kafka is back, and nothing is accepted"
            await asyncio.sleep(0.1)
        else:
            return


async def test_starts_without_postgres(own_postgres: Postgres, kafka_bootstrap: str) -> None:
    user = f"user-{uuid4()}"
    own_postgres.stop()
    url = own_postgres.url("videowindow")
    async with running_ingestion(url, kafka_bootstrap, wait_for_schema=False) as running:
        assert (await record(running, event(user))).status == ACCEPTED
        own_postgres.start()
        await until(running.database.ready.is_set, timeout_s=20)
        assert len(await recorded(running, 1, user)) == 1
