"""The feed of the program as people run it, with everything switched on."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.bridge.support.fault_server import CATALOGUE, FaultServer, Step, running_fault_server
from tests.bridge.support.program import Program
from tests.support.polling import wait_for
from tests.support.segment import SegmentServer
from videowindow.feed.v1 import feed_pb2 as pb
from videowindow.feed.v1 import interaction_pb2 as ipb
from videowindow.feed.v1.feed_pb2_grpc import FeedServiceStub
from videowindow.feed.v1.interaction_pb2_grpc import InteractionServiceStub

KEY = ec.generate_private_key(ec.SECP256R1())


@dataclass
class Running:
    """A bridge process and its peers."""

    program: Program
    faults: FaultServer
    segment: SegmentServer
    database: str
    channel: aio.Channel

    async def page(self, user: str | None, **fields: Any) -> pb.GetRecommendationsResponse:
        """Ask for a page of five with the user's token, or without one."""
        metadata = (("authorization", f"Bearer {_token(user)}"),) if user else ()
        request = pb.GetRecommendationsRequest(page_size=5, **fields)
        feed: Any = FeedServiceStub(self.channel)
        reply: pb.GetRecommendationsResponse = await feed.GetRecommendations(request, metadata=metadata, timeout=5)
        return reply

    async def health(self, name: str) -> int:
        """Return what health says of a name."""
        stub = health_pb2_grpc.HealthStub(self.channel)
        reply = await stub.Check(health_pb2.HealthCheckRequest(service=name))  # type: ignore[attr-defined]  # the stubs lack it
        return int(reply.status)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return what a query finds in the bridge's database."""
        with psycopg.connect(self.database) as connection:
            return connection.execute(query).fetchall()


def _token(user: str) -> str:
    now = int(time.time())
    claims = {"sub": user, "aud": "feed", "iss": "https://issuer.example", "iat": now, "exp": now + 60}
    return jwt.encode(claims, KEY, algorithm="ES256")


@pytest.fixture(scope="module")
def segment() -> Iterator[SegmentServer]:
    with SegmentServer() as server:
        yield server


@pytest.fixture(scope="module")
async def running(
    segment: SegmentServer, postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Running]:
    folder = tmp_path_factory.mktemp("feed-program")
    _write_files(folder)
    async with running_fault_server() as faults:
        tokens = {"AUDIENCE": "feed", "ISSUER": "https://issuer.example", "ALGORITHMS": '["ES256"]'}
        program = Program(
            folder,
            **{f"USER_TOKEN_{name}": value for name, value in tokens.items()},
            LIGHTFM_GRPC_ENDPOINT=faults.address,
            DATABASE_URL=postgres_url,
            EXPERIMENT_PATH=str(folder / "experiment.json"),
            USER_KEYS_PATH=str(folder / "users.pem"),
            ANONYMOUS_USERS="true",
            SEGMENT_WRITE_KEY="a-secret",
            SEGMENT_URL=segment.url,
        )
        address = await asyncio.to_thread(program.start)
        async with aio.insecure_channel(address) as channel:
            yield Running(program, faults, segment, postgres_url, channel)
        assert await asyncio.to_thread(program.stop) == 0
        assert "a-secret" not in program.log.read_text()


def _write_files(folder: Path) -> None:
    (folder / "users.pem").write_bytes(
        KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    variants = [{"id": "diverse", "share": 1.0, "parameters": {"diversity": 0.5}}]
    (folder / "experiment.json").write_text(json.dumps({"id": "diversity", "variants": variants}))


async def test_user_of_the_token_is_assigned_a_variant(running: Running) -> None:
    running.faults.play()
    reply = await running.page("u1")
    (asked,) = running.faults.requests
    assert (asked.user_id, asked.diversity) == ("u1", 0.5)
    assert reply.experiment_variant_id == "diverse"


async def test_who_may_see_what(running: Running) -> None:
    assert (await running.page(None)).fallback_reason == pb.FALLBACK_REASON_ANONYMOUS
    with pytest.raises(aio.AioRpcError) as caught:
        await running.page(None, user_id="u1")
    assert caught.value.code() is StatusCode.UNAUTHENTICATED
    with pytest.raises(aio.AioRpcError) as caught:
        await running.page("u2", user_id="u1")
    assert caught.value.code() is StatusCode.PERMISSION_DENIED


async def test_page_and_what_became_of_it_are_known(running: Running) -> None:
    """One page: its row in Postgres, its event at Segment, the event of a watch, and the watched video gone."""
    reply = await running.page("u3", feed_session_id="session-3", surface="home")
    watched = reply.videos[0].video_id
    interactions: Any = InteractionServiceStub(running.channel)
    event = ipb.Interaction(
        user_id="u3",
        video_id=watched,
        interaction_type=ipb.INTERACTION_TYPE_WATCH,
        recommendation=ipb.RecommendationContext(feed_session_id="session-3", algorithm=reply.algorithm),
    )
    done = await interactions.RecordInteraction(ipb.RecordInteractionRequest(interaction=event), timeout=5)
    row = await asyncio.to_thread(
        wait_for, lambda: running.rows("SELECT page, surface, video_ids FROM feed_cache WHERE user_id = 'u3'")
    )
    assert row == [(1, "home", [video.video_id for video in reply.videos])]

    def told() -> dict[str, Any]:
        events = [one for one in running.segment.events if one["properties"]["feed_session_id"] == "session-3"]
        return {one["event"]: one for one in events} if len(events) > 1 else {}

    events = await asyncio.to_thread(wait_for, told)
    assert events["feed_recommendation_served"]["properties"]["video_ids"] == row[0][2]
    assert events["feed_recommendation_consumed"]["messageId"] == done.event_id
    assert events["feed_recommendation_consumed"]["properties"]["video_id"] == watched
    again = await running.page("u3")
    assert watched not in {video.video_id for video in again.videos}


async def test_health_names_the_breaker(running: Running) -> None:
    """LightFM's part says NOT_SERVING while the breaker is open; the bridge itself serves on."""
    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    assert await running.health("lightfm") == serving
    running.faults.play(otherwise=Step(StatusCode.INTERNAL))
    for _ in range(6):
        await running.page("u4")
    assert await running.health("lightfm") == not_serving
    assert await running.health("") == serving
    running.faults.play()
    for _ in range(200):
        if (await running.page("u5")).served_by == pb.SERVED_BY_LIGHTFM:
            break
        await asyncio.sleep(0.05)
    assert await running.health("lightfm") == serving
    assert len((await running.page("u6")).videos) == 5 <= len(CATALOGUE)
