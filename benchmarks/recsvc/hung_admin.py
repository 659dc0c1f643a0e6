"""Measures pages while eight ActivateModel calls hang on a model store that does not answer, beside idle ones, in turn.

The version that they ask for has a named pipe for a manifest: whoever opens it waits until somebody writes.
"""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
from grpc import aio

from benchmarks import knob
from benchmarks.feed.stack import PAGE, USERS, Peers, running_peers
from benchmarks.open_loop import Load, drive, together
from benchmarks.report import Row
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb
from videowindow.lightfm.v2025_9.lightfm_recommendation_pb2_grpc import ModelServiceStub, RecommendationServiceStub

SECONDS: Final = knob.number("HUNG_ADMIN_S", 2.0)
ROUNDS: Final = knob.whole("HUNG_ADMIN_ROUNDS", 10)
RATE: Final = 100.0
CALLS: Final = 8
BUDGET: Final = 1.5
HUNG: Final = "20250903-1"


def run() -> dict[str, list[Row]]:
    """Measure both cases, and return their table."""
    with running_peers() as peers:
        return asyncio.run(_measure(peers))


async def _measure(peers: Peers) -> dict[str, list[Row]]:
    manifest = peers.folder / "models" / HUNG / "manifest.json"
    manifest.parent.mkdir()
    os.mkfifo(manifest)
    address = peers.recsvc("recsvc").address
    loads: dict[str, list[Load]] = {"idle": [], "eight calls hang": []}
    async with aio.insecure_channel(address) as pages, aio.insecure_channel(address, options=_OWN) as admin:
        await asyncio.gather(pages.channel_ready(), admin.channel_ready())
        for turn in range(ROUNDS):
            loads["idle"].append(await _pages(pages, turn))
            hanging = [asyncio.ensure_future(_activate(admin)) for _ in range(CALLS)]
            await asyncio.sleep(0.2)  # until they hang: nothing tells from outside
            loads["eight calls hang"].append(await _pages(pages, turn))
            await _release(manifest, hanging)
    return {f"{RATE:.0f} pages/s; budget: p99 at most {BUDGET} of idle's": [_row(name, loads) for name in loads]}


_OWN: Final = [("grpc.use_local_subchannel_pool", 1)]


async def _pages(channel: aio.Channel, seed: int) -> Load:
    stub: Any = RecommendationServiceStub(channel)

    async def ask(number: int) -> str:
        reply = await stub.Recommend(pb.RecommendRequest(user_id=f"u{number % USERS}", page_size=PAGE), timeout=5)
        return "page" if len(reply.videos) == PAGE else "short page"

    return await drive(ask, rate=RATE, seconds=SECONDS, seed=seed)


async def _activate(channel: aio.Channel) -> None:
    models: Any = ModelServiceStub(channel)
    try:
        await models.ActivateModel(pb.ActivateModelRequest(version=HUNG), timeout=60)
    except aio.AioRpcError:
        return


async def _release(manifest: Path, hanging: Sequence["asyncio.Future[None]"]) -> None:
    """Let the calls go on: each reader gets an empty manifest, which is an error."""
    while not all(one.done() for one in hanging):
        with suppress(OSError):  # nobody reads now
            os.close(os.open(manifest, os.O_WRONLY | os.O_NONBLOCK))
        await asyncio.sleep(0.01)


def _row(name: str, loads: dict[str, list[Load]]) -> Row:
    ratios = [one.percentile(99) / idle.percentile(99) for one, idle in zip(loads[name], loads["idle"], strict=True)]
    low, high = np.percentile(ratios, [2.5, 97.5])
    return {
        "pages": name,
        **together(loads[name]).summary(),
        "p99 / idle": f"{np.median(ratios):.2f} [{low:.2f}, {high:.2f}]",
    }
