"""Feedback and playback through gRPC into real Postgres and Kafka."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from grpc import StatusCode, aio

from bridge.analytics.user_features import Features
from bridge.kafka.publisher import KafkaPublisher
from bridge.kafka.topics import FEATURES_TOPIC, FEEDBACK_TOPIC
from bridge.playback.position_sync import MAX_UNDER_WAY, PositionSync
from bridge.playback.sessions import completion_rate
from bridge.postgres.pool import DatabaseUnavailableError
from deploy.local.postgres import Postgres
from servicekit.telemetry.metrics import connect_metrics
from tests.bridge.support.events import event, is_temporary, published, record
from tests.bridge.support.ingestion import Ingestion, running_ingestion
from tests.bridge.support.topic import read_topic
from tests.bridge.support.waiting import until
from tests.support.dogstatsd import DogStatsdServer
from videowindow.feed.v1 import interaction_pb2 as pb
from videowindow.feed.v1 import playback_pb2 as playback

ACCEPTED, DUPLICATE = pb.ACKNOWLEDGEMENT_STATUS_ACCEPTED, pb.ACKNOWLEDGEMENT_STATUS_DUPLICATE


@pytest.fixture(scope="module")
async def ingestion(postgres_url: str, kafka_bootstrap: str) -> AsyncIterator[Ingestion]:
    async with running_ingestion(postgres_url, kafka_bootstrap) as running:
        yield running


async def test_feedback_reaches_both(ingestion: Ingestion, kafka_bootstrap: str) -> None:
    user, event_id = f"user-{uuid4()}", str(uuid4())
    request = pb.RecordFeedbackRequest(
        event_id=event_id,
        user_id=user,
        video_id="v1",
        sentiment=pb.SENTIMENT_NEGATIVE,
        comment="nicht schön",
        recommendation=pb.RecommendationContext(model_version="m1"),
    )
    replies = [await ingestion.stub.RecordFeedback(request) for _ in range(2)]
    assert [(reply.event_id, reply.status) for reply in replies] == [(event_id, ACCEPTED), (event_id, DUPLICATE)]
    rows = await ingestion.rows(
        "SELECT sentiment, comment, model_version FROM recommendation_feedback WHERE user_id = %s", user
    )
    assert rows == [("negative", "nicht schön", "m1")]
    (message,) = await published(ingestion, kafka_bootstrap, "feed.feedback.v1", user)
    assert message.headers == {"event-id": event_id, "model-version": "m1"}
    assert (message.value["sentiment"], message.value["comment"]) == ("negative", "nicht schön")


async def test_bad_feedback_is_named(ingestion: Ingestion) -> None:
    request = pb.RecordFeedbackRequest(user_id="u", comment="x" * 2001)
    with pytest.raises(aio.AioRpcError) as caught:
        await ingestion.stub.RecordFeedback(request)
    assert caught.value.code() is StatusCode.INVALID_ARGUMENT
    for field in ("video_id", "sentiment", "comment"):
        assert field in (caught.value.details() or "")


async def test_playback_from_start_to_end(ingestion: Ingestion, kafka_bootstrap: str) -> None:
    """The latest position wins, repeats change nothing, and the rate is what was watched of the length."""
    user = f"user-{uuid4()}"
    create = playback.CreateSessionRequest(session_id=str(uuid4()), user_id=user, video_id="v1", duration_ms=10_000)
    for _ in range(2):
        created = await ingestion.playback.CreateSession(create)
    assert created.session_id == create.session_id
    late = _position(create.session_id, 4000)
    late.timestamp.FromMilliseconds(late.timestamp.ToMilliseconds() - 60_000)
    for request in (_position(create.session_id, 7000), late):
        await ingestion.playback.UpdatePosition(request)
    end = playback.EndSessionRequest(session_id=create.session_id, position_ms=7500, watch_time=7500)
    rates = [(await ingestion.playback.EndSession(end)).completion_rate for _ in range(2)]
    assert rates == [0.75, 0.75]
    rows = await ingestion.rows(
        "SELECT position_ms, completion_rate FROM playback_sessions WHERE session_id = %s", create.session_id
    )
    assert rows == [(7500, 0.75)]
    (began,) = await published(ingestion, kafka_bootstrap, "playback.session-created", user)
    (moved,) = await published(ingestion, kafka_bootstrap, "playback.position-updated", user)
    (ended,) = await published(ingestion, kafka_bootstrap, "playback.session-ended", user)
    assert (began.value["durationMs"], moved.value["positionMs"]) == (10_000, 7000)
    assert ended.value["completionRate"] == 0.75
    assert {one.value["sessionId"] for one in (began, moved, ended)} == {create.session_id}


def _position(session_id: str, position_ms: int) -> playback.UpdatePositionRequest:
    request = playback.UpdatePositionRequest(session_id=session_id, position_ms=position_ms)
    request.timestamp.GetCurrentTime()
    return request


@pytest.mark.parametrize(("watched", "rate"), [(0, 0.0), (5, 0.5), (10, 1.0), (25, 1.0)])
def test_completion_rate_is_clamped(watched: int, rate: float) -> None:
    assert completion_rate(watched, 10) == rate


async def test_unknown_session_is_not_found(ingestion: Ingestion) -> None:
    for call, request in (
        (ingestion.playback.UpdatePosition, playback.UpdatePositionRequest(session_id=str(uuid4()))),
        (ingestion.playback.EndSession, playback.EndSessionRequest(session_id=str(uuid4()))),
    ):
        with pytest.raises(aio.AioRpcError) as caught:
            await call(request)
        assert caught.value.code() is StatusCode.NOT_FOUND


async def test_bad_playback_is_named(ingestion: Ingestion) -> None:
    taken = playback.CreateSessionRequest(session_id=str(uuid4()), user_id="a", video_id="v", duration_ms=1)
    await ingestion.playback.CreateSession(taken)
    taken.user_id = "b"
    for call, request, field in (
        (ingestion.playback.CreateSession, taken, "session_id"),
        (ingestion.playback.CreateSession, playback.CreateSessionRequest(user_id="u", video_id="v"), "duration_ms"),
        (ingestion.playback.UpdatePosition, playback.UpdatePositionRequest(position_ms=-1), "position_ms"),
        (ingestion.playback.EndSession, playback.EndSessionRequest(watch_time=-1), "watch_time"),
    ):
        with pytest.raises(aio.AioRpcError) as caught:
            await call(request)
        assert caught.value.code() is StatusCode.INVALID_ARGUMENT
        assert field in (caught.value.details() or "")


async def test_positions_are_forwarded(ingestion: Ingestion, postgres_url: str, dogstatsd: DogStatsdServer) -> None:
    """The sync service gets each position; one that hangs costs callers nothing, and is counted."""
    create = playback.CreateSessionRequest(user_id="u", video_id="v", duration_ms=10)
    session_id = (await ingestion.playback.CreateSession(create)).session_id
    metrics = connect_metrics(dogstatsd.host, dogstatsd.port, service="bridge")
    silent = socket.create_server(("127.0.0.1", 0))  # its connections are made, and never answered
    dead_port = silent.getsockname()[1]
    async with (
        aio.insecure_channel(ingestion.address) as live,
        aio.insecure_channel(f"127.0.0.1:{dead_port}") as dead,
    ):
        PositionSync(live, metrics).forward(_position(session_id, 8))
        query = "SELECT position_ms FROM playback_sessions WHERE session_id = %s"
        while (await ingestion.rows(query, session_id)) != [(8,)]:  # noqa: ASYNC110  # it asks the database
            await asyncio.sleep(0.01)
        async with running_ingestion(postgres_url, None, positions=PositionSync(dead, metrics)) as running:
            await running.playback.UpdatePosition(_position(session_id, 9))
        await until(lambda: dogstatsd.packets("feed.playback.position_sync_failed"))
        sync: Any = PositionSync(dead, metrics)
        for _ in range(MAX_UNDER_WAY + 5):
            sync.forward(_position(session_id, 1))
        assert len(sync._under_way) == MAX_UNDER_WAY
        await until(lambda: not sync._under_way)
    silent.close()
    metrics.close()


async def test_without_postgres_nothing_is_acknowledged(own_postgres: Postgres) -> None:
    async with running_ingestion(own_postgres.url("videowindow"), None, budget_s=0.5) as running:
        assert own_postgres.child is not None
        own_postgres.child.suspend()
        try:
            request = pb.RecordFeedbackRequest(user_id="u", video_id="v", sentiment=pb.SENTIMENT_POSITIVE)
            with pytest.raises(aio.AioRpcError) as caught:
                await running.stub.RecordFeedback(request)
        finally:
            own_postgres.child.resume()
        is_temporary(caught.value)


async def test_feedback_while_postgres_hangs(own_postgres: Postgres, kafka_bootstrap: str) -> None:
    """Kafka has it when it is acknowledged, and Postgres as soon as that is back; a playback has to wait."""
    user = f"user-{uuid4()}"
    request = pb.RecordFeedbackRequest(
        event_id=str(uuid4()),
        user_id=user,
        video_id="v",
        sentiment=pb.SENTIMENT_NEGATIVE,
        comment="no more \u201cpranks\u201d",
        recommendation=pb.RecommendationContext(algorithm="lightfm-warp", recommendation_score=0.25),
    )
    query = "SELECT event_id::text, sentiment, comment, recommendation_score FROM recommendation_feedback"
    async with running_ingestion(own_postgres.url("videowindow"), kafka_bootstrap, budget_s=5) as running:
        await until(lambda: running.outbox and running.outbox.scanned, timeout_s=20)
        assert own_postgres.child is not None
        own_postgres.child.suspend()
        try:
            assert (await running.stub.RecordFeedback(request)).status == ACCEPTED
            with pytest.raises(aio.AioRpcError) as caught:
                await running.playback.UpdatePosition(_position(str(uuid4()), 1))
        finally:
            own_postgres.child.resume()
        is_temporary(caught.value)
        messages = await asyncio.to_thread(read_topic, kafka_bootstrap, FEEDBACK_TOPIC, {user})
        # Twice, where the commit that was given up comes through after all.
        assert {message.headers["event-id"] for message in messages} == {request.event_id}
        async with asyncio.timeout(30):
            while not (rows := await _rows_when_back(running, query)):  # noqa: ASYNC110  # it asks the database
                await asyncio.sleep(0.05)
        assert rows == [(request.event_id, "negative", request.comment, 0.25)]


async def _rows_when_back(running: Ingestion, query: str) -> list[tuple[Any, ...]]:
    try:
        return await running.rows(query)
    except DatabaseUnavailableError:
        return []


async def test_features_leave_live_traffic_its_turn(
    postgres_server: Postgres, kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many users' messages are made in steps, between which the event loop serves the feed."""
    publisher = KafkaPublisher({"bootstrap.servers": kafka_bootstrap})
    turns = 0
    seen: set[int] = set()
    monkeypatch.setattr(publisher, "publish", lambda *_: seen.add(turns))

    async def serve() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with running_ingestion(postgres_server.create_database(f"test_{uuid4().hex}"), None) as running:
        await running.rows(
            "INSERT INTO user_interactions (user_id, video_id, interaction_type, occurred_at)"
            " SELECT 'u' || n, 'v', 'watch', now() FROM generate_series(1, 1000) AS n RETURNING 1"
        )
        serving = asyncio.create_task(serve())
        assert await Features(running.database, publisher, interval_s=60).publish() == 1000
        serving.cancel()
    await publisher.close(flush_s=1)
    assert len(seen) == 10


async def test_features_are_published(ingestion: Ingestion, kafka_bootstrap: str) -> None:
    """What a user did lately, counted; those who did nothing are not named."""
    user = f"user-{uuid4()}"
    for kind in (pb.INTERACTION_TYPE_WATCH, pb.INTERACTION_TYPE_LIKE):
        await record(ingestion, event(user, interaction_type=kind, watch_time=700))
    assert ingestion.publisher is not None
    assert await Features(ingestion.database, ingestion.publisher, interval_s=60).publish() >= 1
    await until(lambda: ingestion.publisher and ingestion.publisher._unanswered_since is None)
    (message,) = await asyncio.to_thread(read_topic, kafka_bootstrap, FEATURES_TOPIC, {user})
    features = {name: value for name, value in message.value.items() if name != "timestamp"}
    assert features == {
        "userId": user,
        "interactions7d": 2,
        "watches7d": 1,
        "engagements7d": 1,
        "watchTime7d": 1400,
        "completionRate": None,
    }
