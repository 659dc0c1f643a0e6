"""FeedService over real channels: bridge in front of a recsvc that fails as scripted."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode, aio

from bridge.domain.page import RankedVideo, ServedBy
from bridge.feed.page_token import MAX_SERVED
from bridge.trending.ranking import Trending, TrendingVideo
from tests.bridge.support.fault_server import CATALOGUE, Step
from tests.bridge.support.feed_bridge import COMPUTED_AT, TRENDING, Bridge
from tests.bridge.support.feed_pages import DOWN, bad_fields_of, ids_of
from tests.bridge.support.waiting import until
from videowindow.feed.v1 import feed_pb2 as pb

pytestmark = pytest.mark.peer


async def test_personal_page(bridge: Bridge) -> None:
    reply = await bridge.page(surface="home", request_id="r1", experiment_variant_id="blue")
    assert ids_of(reply) == list(CATALOGUE[:5])
    assert reply.served_by == pb.SERVED_BY_LIGHTFM
    assert reply.fallback_reason == pb.FALLBACK_REASON_UNSPECIFIED
    assert (reply.algorithm, reply.model_version, reply.attempts) == ("lightfm-warp", "20251101T020000Z", 1)
    assert reply.feed_session_id
    assert reply.next_page_token
    assert reply.experiment_variant_id == "blue"
    (asked,) = bridge.faults.requests
    assert (asked.user_id, asked.page_size, asked.surface, asked.request_id) == ("u1", 5, "home", "r1")
    assert asked.diversity == 0.25


async def test_callers_nearer_deadline_is_honoured(bridge: Bridge) -> None:
    """A caller that waits 60 ms gets its trending page within them; few times at most does this machine pause then."""
    bridge.faults.play(otherwise=Step(delay_s=30))
    request = pb.GetRecommendationsRequest(user_id="u1")
    replies: list[Any] = []
    for _ in range(4):  # five would open the breaker
        with suppress(aio.AioRpcError):
            replies.append(await bridge.feed.GetRecommendations(request, timeout=0.06))
    assert {reply.fallback_reason for reply in replies} == {pb.FALLBACK_REASON_DEADLINE_EXCEEDED}
    granted = bridge.faults.granted_s
    assert granted
    assert all(one is not None and one <= 0.052 for one in granted)  # gRPC rounds up to milliseconds


async def test_pages_never_repeat_when_the_server_changes(bridge: Bridge) -> None:
    """LightFM, trending, LightFM, trending: one session, no video twice."""
    shown: list[str] = []
    reply = await bridge.page()
    session = reply.feed_session_id
    for number in range(8):
        shown += ids_of(reply)
        bridge.faults.play(*[DOWN] * 3 if number % 2 == 0 else [])
        reply = await bridge.page(page_token=reply.next_page_token)
        assert reply.served_by == (pb.SERVED_BY_TRENDING if number % 2 == 0 else pb.SERVED_BY_LIGHTFM)
        assert reply.feed_session_id == session
        assert len(reply.videos) == 5
    assert len(set(shown)) == len(shown) == 40


@pytest.mark.parametrize("down", [False, True])
async def test_pages_end(bridge: Bridge, down: bool) -> None:  # noqa: FBT001  # a parameter
    """Following the tokens shows every video once; the empty token is the end."""
    bridge.faults.play(otherwise=Step(StatusCode.INTERNAL) if down else Step())
    shown, token = [], ""
    while True:
        reply = await bridge.page(page_size=17, page_token=token)
        shown += ids_of(reply)
        token = reply.next_page_token
        if not token:
            break
    assert shown == (TRENDING if down else list(CATALOGUE))


async def test_page_size_may_change_between_pages(bridge: Bridge) -> None:
    first = await bridge.page(page_size=3)
    second = await bridge.page(page_size=7, page_token=first.next_page_token, request_id="other")
    assert ids_of(first) + ids_of(second) == list(CATALOGUE[:10])


async def test_session_ends_after_its_most_videos(bridge: Bridge) -> None:
    bridge.board.current = Trending(
        COMPUTED_AT, [TrendingVideo(ranked=RankedVideo(f"x{number:05}", 1.0)) for number in range(3000)]
    )
    bridge.faults.play(otherwise=Step(StatusCode.INTERNAL))
    shown, token = 0, ""
    while True:
        reply = await bridge.page(page_size=500, page_token=token)
        shown += len(reply.videos)
        token = reply.next_page_token
        if not token:
            break
    assert shown == MAX_SERVED


async def test_seen_videos_are_left_out(bridge: Bridge) -> None:
    """Whoever ranks, what the user has just seen does not come back; another user still gets it."""
    bridge.seen.add("u1", [*TRENDING[:3], *CATALOGUE[:3]])
    assert ids_of(await bridge.page()) == list(CATALOGUE[3:8])
    bridge.faults.play(otherwise=DOWN)
    assert ids_of(await bridge.page()) == TRENDING[3:8]
    assert ids_of(await bridge.page(user_id="u2")) == TRENDING[:5]


async def test_listeners_are_told_of_each_page(bridge: Bridge) -> None:
    first = await bridge.page(surface="home", experiment_variant_id="red")
    bridge.faults.play(otherwise=DOWN)
    again = {"surface": "home", "experiment_variant_id": "red"}
    second = await bridge.page(page_token=first.next_page_token, **again)
    one, two = bridge.pages
    assert [one.number, two.number] == [1, 2]
    assert {page.feed_session_id for page in (one, two)} == {first.feed_session_id}
    assert [page.page.served_by for page in (one, two)] == [ServedBy.LIGHTFM, ServedBy.TRENDING]
    assert [video.video_id for video in two.page.videos] == ids_of(second)
    assert {(page.user_id, page.surface, page.variant_id) for page in (one, two)} == {("u1", "home", "red")}


async def test_filter_that_leaves_nothing(bridge: Bridge) -> None:
    """An empty page is an answer, not a failure."""
    reply = await bridge.page(filter=pb.VideoFilter(any_tags=["none"]))
    assert (ids_of(reply), reply.next_page_token, reply.served_by) == ([], "", pb.SERVED_BY_LIGHTFM)


async def test_filter_reaches_lightfm_whole(bridge: Bridge) -> None:
    wanted = pb.VideoFilter(
        any_tags=["a"],
        none_tags=["b"],
        any_author_ids=["c"],
        none_author_ids=["d"],
        min_duration_ms=0,
        max_duration_ms=9,
        published_after=Timestamp(seconds=-5, nanos=7),
    )
    await bridge.page(filter=wanted)
    assert bridge.faults.requests[0].filter.SerializeToString() == wanted.SerializeToString()


async def test_own_session_is_kept(bridge: Bridge) -> None:
    reply = await bridge.page(feed_session_id="mine")
    assert reply.feed_session_id == "mine"
    reply = await bridge.page(feed_session_id="mine", page_token=reply.next_page_token)
    assert reply.feed_session_id == "mine"


BAD = [
    ({"user_id": ""}, ["user_id"]),
    ({"user_id": "x" * 129}, ["user_id"]),
    ({"user_id": "a\x00b"}, ["user_id"]),
    ({"page_size": -1}, ["page_size"]),
    ({"page_token": "garbage"}, ["page_token"]),
    ({"surface": "a\nb"}, ["surface"]),
    ({"feed_session_id": "x" * 200}, ["feed_session_id"]),
    ({"experiment_variant_id": "\x7f"}, ["experiment_variant_id"]),
    ({"filter": pb.VideoFilter(any_tags=["t"] * 101)}, ["filter.any_tags"]),
    ({"filter": pb.VideoFilter(none_author_ids=["ok", ""])}, ["filter.none_author_ids[1]"]),
    ({"filter": pb.VideoFilter(min_duration_ms=-1)}, ["filter.min_duration_ms"]),
    ({"filter": pb.VideoFilter(min_duration_ms=5, max_duration_ms=4)}, ["filter.min_duration_ms"]),
    ({"filter": pb.VideoFilter(published_after=Timestamp(nanos=-1))}, ["filter.published_after"]),
    ({"filter": pb.VideoFilter(published_after=Timestamp(seconds=2**60))}, ["filter.published_after"]),
    ({"user_id": "", "page_size": -9, "filter": pb.VideoFilter(max_duration_ms=-1)},
     ["user_id", "page_size", "filter.max_duration_ms"]),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "bad"), BAD)
async def test_bad_input_names_each_field(bridge: Bridge, fields: dict[str, Any], bad: list[str]) -> None:
    with pytest.raises(aio.AioRpcError) as caught:
        await bridge.page(**fields)
    assert set(bad) <= set(bad_fields_of(caught.value))
    assert not bridge.faults.requests, "LightFM is not asked about what is invalid"


@pytest.mark.parametrize(
    "fields",
    [
        {"user_id": "u2"},
        {"surface": "other"},
        {"feed_session_id": "another"},
        {"experiment_variant_id": "red"},
        {"filter": pb.VideoFilter(any_tags=["a"])},
    ],
)
async def test_token_of_another_request(bridge: Bridge, fields: dict[str, Any]) -> None:
    token = (await bridge.page()).next_page_token
    with pytest.raises(aio.AioRpcError) as caught:
        await bridge.page(page_token=token, **fields)
    assert bad_fields_of(caught.value) == ["page_token"]


async def test_metrics(bridge: Bridge) -> None:
    bridge.faults.play(otherwise=Step(StatusCode.INTERNAL))
    for _ in range(6):
        await bridge.page()
    agent = bridge.agent
    await until(lambda: agent.packets("feed.recommendation.fallback", "reason:circuit_open", "service:bridge"))
    await until(lambda: agent.packets("feed.recommendation.fallback", "reason:error"))
    await until(lambda: agent.packets("feed.recommendation.latency", "served_by:trending", "status:ok"))
    await until(lambda: agent.packets("feed.recommendation.breaker_state"))
    assert agent.packets("feed.recommendation.latency")[0].kind == "d"
    await until(lambda: any("circuit breaker open" in event for event in agent.events()))


async def test_many_callers_at_once(bridge: Bridge) -> None:
    bridge.faults.play(otherwise=Step(delay_s=0.02))
    replies = await asyncio.gather(*[bridge.page(user_id=f"u{number}") for number in range(30)])
    assert {reply.fallback_reason for reply in replies} == {pb.FALLBACK_REASON_UNSPECIFIED}
    assert len({reply.feed_session_id for reply in replies}) == 30
