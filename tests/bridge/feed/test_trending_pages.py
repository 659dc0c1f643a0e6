"""Pages from what is trending: when they are served, and the trending feed itself."""

import time
from datetime import UTC

import pytest
from grpc import StatusCode, aio

from tests.bridge.support.fault_server import Step
from tests.bridge.support.feed_bridge import COMPUTED_AT, TRENDING, Bridge
from tests.bridge.support.feed_pages import DOWN, bad_fields_of, ids_of
from tests.bridge.support.waiting import until
from videowindow.feed.v1 import feed_pb2 as pb

pytestmark = pytest.mark.peer


@pytest.mark.parametrize(
    ("step", "reason", "attempts"),
    [
        (Step(delay_s=30), pb.FALLBACK_REASON_DEADLINE_EXCEEDED, 1),
        (DOWN, pb.FALLBACK_REASON_UNAVAILABLE, 3),
        (Step(StatusCode.RESOURCE_EXHAUSTED), pb.FALLBACK_REASON_OVERLOADED, 1),
        (Step(StatusCode.INTERNAL), pb.FALLBACK_REASON_ERROR, 1),
        (Step(StatusCode.INVALID_ARGUMENT), pb.FALLBACK_REASON_ERROR, 1),
        (Step(StatusCode.UNAVAILABLE, reason="NO_MODEL"), pb.FALLBACK_REASON_NO_MODEL, 1),
    ],
)
async def test_trending_page_says_why(bridge: Bridge, step: Step, reason: int, attempts: int) -> None:
    bridge.faults.play(otherwise=step)
    started = time.monotonic()
    reply = await bridge.page()
    assert time.monotonic() - started < 2  # the peer would take 30 s; the benchmark of faults holds the 150 ms
    assert ids_of(reply) == TRENDING[:5]
    assert (reply.served_by, reply.fallback_reason, reply.attempts) == (pb.SERVED_BY_TRENDING, reason, attempts)
    assert (reply.algorithm, reply.model_version) == ("trending", "")


async def test_open_breaker_serves_trending_without_a_call(bridge: Bridge) -> None:
    bridge.faults.play(otherwise=Step(StatusCode.INTERNAL))
    for _ in range(5):
        await bridge.page()
    reply = await bridge.page()
    assert (reply.fallback_reason, reply.attempts) == (pb.FALLBACK_REASON_CIRCUIT_OPEN, 0)
    assert len(bridge.faults.requests) == 5
    bridge.faults.play()
    bridge.clock.now += 2
    assert (await bridge.page()).served_by == pb.SERVED_BY_LIGHTFM


async def test_trending_arm_does_not_ask_lightfm(bridge: Bridge) -> None:
    reply = await bridge.page(experiment_variant_id="popular")
    assert ids_of(reply) == TRENDING[:5]
    assert (reply.fallback_reason, reply.experiment_variant_id) == (pb.FALLBACK_REASON_EXPERIMENT, "popular")
    assert not bridge.faults.requests
    agent = bridge.agent
    await until(lambda: agent.packets("feed.recommendation.fallback", "reason:experiment", "variant:popular"))
    await until(lambda: agent.packets("feed.recommendation.latency", "served_by:trending", "variant:popular"))


async def test_unknown_variant(bridge: Bridge) -> None:
    with pytest.raises(aio.AioRpcError) as caught:
        await bridge.page(experiment_variant_id="green")
    assert bad_fields_of(caught.value) == ["experiment_variant_id"]


async def test_a_user_who_has_seen_all_videos_gets_trending(bridge: Bridge) -> None:
    """LightFM's page is empty: rather videos that were seen before than none, on the next page as well."""
    wanted = pb.VideoFilter(any_tags=["even"])  # the scripted server has none of these
    first = await bridge.page(filter=wanted)
    second = await bridge.page(filter=wanted, page_token=first.next_page_token)
    for page in (first, second):
        assert (page.served_by, page.fallback_reason) == (pb.SERVED_BY_TRENDING, pb.FALLBACK_REASON_EXHAUSTED)
    assert ids_of(first) + ids_of(second) == TRENDING[:20:2]


async def test_anonymous_user_gets_trending(bridge: Bridge) -> None:
    """Pages of a user without a name follow each other, too, and LightFM is not asked."""
    shown: list[str] = []
    token = ""
    for _ in range(3):
        request = pb.GetRecommendationsRequest(page_size=5, page_token=token)
        reply = await bridge.feed.GetRecommendations(request, metadata=(("anonymous", "yes"),))
        assert (reply.served_by, reply.fallback_reason) == (pb.SERVED_BY_TRENDING, pb.FALLBACK_REASON_ANONYMOUS)
        shown += ids_of(reply)
        token = reply.next_page_token
    assert shown == TRENDING[:15]
    assert not bridge.faults.requests


async def test_filter_applies_to_trending(bridge: Bridge) -> None:
    bridge.faults.play(otherwise=DOWN)
    reply = await bridge.page(filter=pb.VideoFilter(any_tags=["even"]))
    assert ids_of(reply) == TRENDING[:10:2]


async def test_trending_feed(bridge: Bridge) -> None:
    """Its pages follow each other to the end, and say when they were ranked."""
    shown, token = [], ""
    while True:
        reply = await bridge.feed.GetTrending(pb.GetTrendingRequest(page_size=30, page_token=token))
        assert reply.computed_at.ToDatetime(UTC) == COMPUTED_AT
        shown += ids_of(reply)
        token = reply.next_page_token
        if not token:
            break
    assert shown == TRENDING


async def test_trending_feed_refuses_tokens_of_the_other_feed(bridge: Bridge) -> None:
    token = (await bridge.page()).next_page_token
    with pytest.raises(aio.AioRpcError) as caught:
        await bridge.feed.GetTrending(pb.GetTrendingRequest(page_token=token))
    assert bad_fields_of(caught.value) == ["page_token"]


async def test_nothing_to_fall_back_on(bridge: Bridge) -> None:
    """Before the first ranking, a failing LightFM leaves an empty page with its reason, not an error."""
    bridge.board.current = None
    bridge.faults.play(otherwise=DOWN)
    reply = await bridge.page()
    assert (ids_of(reply), reply.next_page_token) == ([], "")
    assert reply.fallback_reason == pb.FALLBACK_REASON_UNAVAILABLE
    assert not (await bridge.feed.GetTrending(pb.GetTrendingRequest())).videos
