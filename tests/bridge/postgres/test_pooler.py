"""The bridge and the lock of training behind a pooler, which shares sessions between clients."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from grpc import aio

from bridge.analytics.served_pages import ServedPageLog
from bridge.analytics.user_features import Features
from bridge.domain.page import Page, RankedVideo, ServedBy, ServedPage
from bridge.ingest.protobuf import decode_interaction
from bridge.kafka.message import INTERACTIONS_TOPIC, interaction_message
from bridge.maintenance.event_id_retention import Retention
from bridge.trending.query import TrendingPolicy, compute_trending
from bridge.trending.roller import Roller
from deploy.local.postgres import Postgres
from servicekit.telemetry.metrics import NoMetrics
from tests.bridge.support.events import drained, event, record, recorded
from tests.bridge.support.ingestion import Ingestion, running_ingestion
from tests.bridge.support.trending import COUNTING
from tests.support.pgbouncer import pgbouncer
from videowindow.feed.v1 import interaction_pb2 as pb
from videowindow.feed.v1 import playback_pb2 as playback

MODES: Final = ("session", "transaction")
EVENTS: Final = 3000
CALLERS: Final = 64


@pytest.fixture(scope="module", params=MODES)
def pooled(
    request: pytest.FixtureRequest, postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """URL of a database behind a pooler; sessions of `session` last as long as clients, so it needs more of them."""
    url = postgres_server.create_database(f"test_{uuid4().hex}")
    size = 5 if request.param == "transaction" else 40
    with pgbouncer(tmp_path_factory.mktemp("pooler"), url, mode=request.param, pool_size=size) as through:
        yield through


async def test_interactions_pass_a_pooler(pooled: str, kafka_bootstrap: str) -> None:
    """Each of many at once is recorded, once, and reaches Kafka."""
    user = f"u-{uuid4()}"
    async with running_ingestion(pooled, kafka_bootstrap, budget_s=60) as running:
        numbers = iter(range(EVENTS))
        outcomes: Counter[str] = Counter()

        async def send() -> None:
            for _ in numbers:
                try:
                    reply = await record(running, event(user), timeout_s=60)
                    outcomes[pb.AcknowledgementStatus.Name(reply.status)] += 1
                except aio.AioRpcError as error:
                    outcomes[error.code().name] += 1

        await asyncio.gather(*[send() for _ in range(CALLERS)])
        assert outcomes == {"ACKNOWLEDGEMENT_STATUS_ACCEPTED": EVENTS}
        assert len(await recorded(running, EVENTS, user)) == EVENTS
        await drained(running, timeout_s=60)


async def test_everything_else_passes_a_pooler(pooled: str, kafka_bootstrap: str) -> None:
    """What waits in Kafka or in the outbox, playback, features, trending, seen videos and served pages."""
    user = f"u-{uuid4()}"
    async with running_ingestion(pooled, kafka_bootstrap) as running:
        await _leave(running, kafka_bootstrap, user)
        session = playback.CreateSessionRequest(session_id=str(uuid4()), user_id=user, video_id="v1", duration_ms=1000)
        await running.playback.CreateSession(session)
        end = playback.EndSessionRequest(session_id=session.session_id, position_ms=500, watch_time=500)
        assert (await running.playback.EndSession(end)).completion_rate == 0.5
        assert len(await recorded(running, 1, user)) == 1
        await drained(running)
        assert running.publisher is not None
        assert await Features(running.database, running.publisher, interval_s=3600).publish() >= 1
        assert await Roller(running.database, COUNTING).catch_up() >= 1
        trending = await compute_trending(running.database, TrendingPolicy(), datetime.now(UTC))
        assert "v1" in {video.ranked.video_id for video in trending.videos}
        cache = ServedPageLog(running.database, NoMetrics())
        cache.add(_served(user))
        await cache.write()
        assert await running.rows("SELECT page FROM feed_cache WHERE user_id = %s", user) == [(1,)]
        assert await Retention(running.database, time.monotonic, days=8).forget() == 0


async def _leave(running: Ingestion, bootstrap: str, user: str) -> None:
    """Leave a message in Kafka that Postgres has not, and one in the outbox that Kafka has not."""
    sent = interaction_message(decode_interaction(event(user), datetime.now(UTC)), unrecorded=True)
    producer = Producer({"bootstrap.servers": bootstrap})
    headers: list[tuple[str, str | bytes | None]] = [*sent.headers.items()]
    producer.produce(INTERACTIONS_TOPIC, sent.value, user, headers=headers)
    producer.flush(10)
    await running.rows(
        "INSERT INTO interactions_outbox (id, created_at, aggregatetype, aggregateid, type, payload, headers)"
        " VALUES (%s, now() - interval '1 minute', %s, %s, 'watch', '{}', '{}') RETURNING id",
        uuid4(),
        INTERACTIONS_TOPIC,
        user,
    )


def _served(user: str) -> ServedPage:
    page = Page(
        videos=[RankedVideo("v1", 1.0)],
        more=False,
        algorithm="lightfm-warp",
        served_by=ServedBy.LIGHTFM,
        model_version="m1",
        fallback_reason=None,
    )
    return ServedPage(
        user_id=user,
        feed_session_id="s1",
        surface="home",
        variant_id="",
        number=1,
        served_at=datetime.now(UTC),
        page=page,
    )


async def test_statements_are_prepared_where_there_is_no_pooler(postgres_url: str, pooled: str) -> None:
    """And not where one of them was unknown, though nothing showed that there is a pooler."""
    for url, expected in ((postgres_url, True), (pooled, False)):
        async with running_ingestion(url, None) as running, running.database.statements() as connection:
            assert (connection.prepare_threshold is not None) is expected
    async with running_ingestion(postgres_url, None) as running:
        user = f"u-{uuid4()}"
        for _ in range(6):  # so that it is prepared
            await record(running, event(user))
        for _ in range(2):
            async with running.database.statements() as connection:
                await connection.execute("DEALLOCATE ALL")
        for _ in range(6):
            await record(running, event(user))
        assert len(await recorded(running, 12, user)) == 12
