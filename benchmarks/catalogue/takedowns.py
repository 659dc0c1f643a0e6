"""From the call of a hide to the first page without the video, over two bridges that did not take the call.

With everything up, without Kafka, and without Postgres. The pages are asked for all the time; a video counts as gone
when no later page shows it.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from grpc import aio

from benchmarks import knob
from benchmarks.catalogue.calls import hide, stub
from benchmarks.feed.stack import PAGE, Peers, running_peers
from benchmarks.report import Row
from videowindow.feed.v1 import feed_pb2 as pb
from videowindow.feed.v1.feed_pb2_grpc import FeedServiceStub

TAKEDOWNS = knob.whole("CATALOGUE_TAKEDOWNS", 100)
"""Of each kind."""
PAUSE_S = 0.02
WAIT_S = 10.0
SETTLE_S = 5.0


def run() -> dict[str, list[Row]]:
    """Return the table."""
    with running_peers() as peers:
        bridges = [peers.bridge(f"bridge{n}", "127.0.0.1:1").address for n in range(3)]
        return {"Takedowns": asyncio.run(_measure(peers, bridges))}


async def _measure(peers: Peers, bridges: Sequence[str]) -> list[Row]:
    rows: list[Row] = []
    channels = [aio.insecure_channel(address) for address in bridges]
    catalogue, feeds = stub(channels[0]), [FeedServiceStub(one) for one in channels[1:]]
    rows.append(await _row("all is up", catalogue, feeds))
    await asyncio.to_thread(peers.postgres.stop)
    await asyncio.sleep(SETTLE_S)
    rows.append(await _row("Postgres is away", catalogue, feeds))
    await asyncio.to_thread(peers.postgres.start)
    await asyncio.to_thread(peers.kafka.stop)
    await asyncio.sleep(SETTLE_S)
    rows.append(await _row("Kafka is away", catalogue, feeds))
    for channel in channels:
        await channel.close()
    return rows


async def _row(name: str, catalogue: Any, feeds: Sequence[Any]) -> Row:
    acknowledged, gone = [], []
    for _ in range(TAKEDOWNS):
        shown = await _page(feeds[0])
        began = time.perf_counter()
        await hide(catalogue, [shown[0]])
        told = time.perf_counter()
        await asyncio.gather(*[_without(feed, shown[0]) for feed in feeds])
        acknowledged.append(told - began)
        gone.append(time.perf_counter() - told)
        await asyncio.sleep(PAUSE_S)
    return {
        "while": name,
        "takedowns": TAKEDOWNS,
        "acknowledged p50 ms": round(1000 * float(np.percentile(acknowledged, 50))),
        "acknowledged p99 ms": round(1000 * float(np.percentile(acknowledged, 99))),
        "gone after that p50 ms": round(1000 * float(np.percentile(gone, 50))),
        "gone after that p99 ms": round(1000 * float(np.percentile(gone, 99))),
        "gone at most ms": round(1000 * max(gone)),
    }


async def _page(feed: Any) -> list[str]:
    reply = await feed.GetRecommendations(pb.GetRecommendationsRequest(user_id="u", page_size=PAGE), timeout=WAIT_S)
    return [one.video_id for one in reply.videos]


async def _without(feed: Any, video_id: str) -> None:
    deadline = time.perf_counter() + WAIT_S
    while video_id in await _page(feed):
        if time.perf_counter() > deadline:
            raise TimeoutError(f"{video_id} is on pages still")
        await asyncio.sleep(0.005)
