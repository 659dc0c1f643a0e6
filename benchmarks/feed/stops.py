"""Sends SIGTERM under load, STOPS times to the bridge and to recsvc, and counts the outcomes of the calls under way.

Eight callers, each with a connection of its own, ask as fast as they are answered. A call that is refused because the
server has begun to end (UNAVAILABLE) goes to another replica in production; a call that is CANCELLED is lost.
"""

import asyncio
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import uuid4

from grpc import aio

from benchmarks import knob
from benchmarks.feed.stack import running_peers
from benchmarks.report import Row
from deploy.local.program import Service
from videowindow.feed.v1 import feed_pb2, interaction_pb2
from videowindow.feed.v1.feed_pb2_grpc import FeedServiceStub
from videowindow.feed.v1.interaction_pb2_grpc import InteractionServiceStub
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as lightfm
from videowindow.lightfm.v2025_9.lightfm_recommendation_pb2_grpc import RecommendationServiceStub

STOPS: Final = knob.whole("STOPS", 20)
CALLERS: Final = 8
BEFORE_S: Final = 0.5
END_S: Final = 30.0
_OWN: Final = [("grpc.use_local_subchannel_pool", 1)]
Call = Callable[[aio.Channel], Awaitable[object]]


def run() -> dict[str, list[Row]]:
    """Stop the bridge and recsvc again and again, and return what callers saw."""
    with running_peers() as peers:
        recsvc = peers.recsvc("recsvc")
        bridge = peers.bridge("bridge", recsvc.address)
        rows = [
            asyncio.run(_stops(bridge, "bridge, pages", _page)),
            asyncio.run(_stops(bridge, "bridge, interactions", _interaction)),
            asyncio.run(_stops(recsvc, "recsvc, pages", _recommend)),
        ]
    return {f"{STOPS} stops each, {CALLERS} callers": rows}


async def _stops(service: Service, title: str, call: Call) -> Row:
    outcomes: Counter[str] = Counter()
    for _ in range(STOPS):
        channels = [aio.insecure_channel(service.address, options=_OWN) for _ in range(CALLERS)]
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        callers = [asyncio.ensure_future(_ask(channel, call, outcomes)) for channel in channels]
        await asyncio.sleep(BEFORE_S)
        process = _process(service)
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(asyncio.gather(*callers), END_S)
        await asyncio.to_thread(process.wait, END_S)
        for channel in channels:
            await channel.close()
        await asyncio.to_thread(service.start)
    return {"calls of": title, "calls": sum(outcomes.values()), **{name: outcomes[name] for name in sorted(outcomes)}}


def _process(service: Service) -> "subprocess.Popen[bytes]":
    if service.child is None:
        raise RuntimeError(f"{service.name} was not started")
    return service.child.process


async def _ask(channel: aio.Channel, call: Call, outcomes: Counter[str]) -> None:
    """Call until the server refuses calls, or one of them is lost."""
    deadline = time.monotonic() + END_S
    while time.monotonic() < deadline:
        try:
            await call(channel)
        except aio.AioRpcError as error:
            outcomes[error.code().name] += 1
            return
        outcomes["OK"] += 1


async def _page(channel: aio.Channel) -> object:
    stub: Any = FeedServiceStub(channel)
    return await stub.GetRecommendations(feed_pb2.GetRecommendationsRequest(user_id="u1"), timeout=5)


async def _interaction(channel: aio.Channel) -> object:
    one = interaction_pb2.Interaction(
        event_id=str(uuid4()), user_id="u1", video_id="v1", interaction_type=interaction_pb2.INTERACTION_TYPE_LIKE
    )
    stub: Any = InteractionServiceStub(channel)
    return await stub.RecordInteraction(interaction_pb2.RecordInteractionRequest(interaction=one), timeout=5)


async def _recommend(channel: aio.Channel) -> object:
    stub: Any = RecommendationServiceStub(channel)
    return await stub.Recommend(lightfm.RecommendRequest(user_id="u1"), timeout=5)
