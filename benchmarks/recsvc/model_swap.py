"""Measures the latency of `Recommend` while another model goes live every two seconds, under open-loop load.

The server runs with its default settings on one machine with the caller; models of 20,000 videos x 64 take turns. Times
with and without swaps take turns as well, ten seconds each: a machine that is slow for a while is slow for both.
MODEL_SWAP_SECONDS is how long each of the two takes in all, in whole turns.
"""

import asyncio
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import grpc
from grpc import aio

from benchmarks import knob
from benchmarks.feed.model import publish_random_model
from benchmarks.open_loop import Load, drive, together
from benchmarks.recsvc.server import recsvc_of, running
from benchmarks.report import Row
from modelstore.registry import Registry
from servicekit.storage.object_store import FileStore
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb
from videowindow.lightfm.v2025_9.lightfm_recommendation_pb2_grpc import RecommendationServiceStub

SECONDS = knob.number("MODEL_SWAP_SECONDS", 60.0)
TURN_S = 10.0
RATE = 300.0
EVERY_S = 2.0
USERS, VIDEOS, DIMENSIONS, PAGE = 5_000, 20_000, 64, 20
VERSIONS = ("20250902-1", "20250902-2")


def run() -> dict[str, list[Row]]:
    """Measure between and during times in which models are swapped."""
    with tempfile.TemporaryDirectory(prefix="bench-swap-") as name:
        folder = Path(name)
        for seed, version in enumerate(VERSIONS):
            publish_random_model(
                folder / "models", version, users=USERS, videos=VIDEOS, dimensions=DIMENSIONS, seed=seed
            )
        with _recsvc(folder) as address:
            rows = asyncio.run(_measure(address, Registry(FileStore(folder / "models"))))
    return {f"{RATE:.0f} calls/s, a swap every {EVERY_S:.0f} s": rows}


async def _measure(address: str, registry: Registry) -> list[Row]:
    async with aio.insecure_channel(address) as channel:
        stub = RecommendationServiceStub(channel)
        served = deque([""], maxlen=1)

        async def call(number: int) -> str:
            request = pb.RecommendRequest(user_id=f"u{number * 7919 % USERS}", page_size=PAGE)
            try:
                reply = await stub.Recommend(request, timeout=1)
            except aio.AioRpcError as error:
                return error.code().name
            served.append(reply.model_version)
            return "OK" if len(reply.videos) == PAGE else "short"

        await drive(call, rate=RATE, seconds=5)
        calm, during, swaps = list[Load](), list[Load](), 0
        for turn in range(max(1, round(SECONDS / TURN_S))):
            calm.append(await drive(call, rate=RATE, seconds=TURN_S, seed=turn))
            with _swapping(registry, served) as swapped:
                during.append(await drive(call, rate=RATE, seconds=TURN_S, seed=turn))
            swaps += len(swapped)
    between = together(calm)
    return [_row("between", between, between, 0), _row("during", together(during), between, swaps)]


def _row(when: str, load: Load, between: Load, swaps: int) -> Row:
    errors = sum(count for outcome, count in load.counts().items() if outcome != grpc.StatusCode.OK.name)
    ratio = round(load.percentile(99) / between.percentile(99), 2)
    return {"when": when, "swaps": swaps, **load.summary(), "errors": errors, "x p99 between": ratio}


@contextmanager
def _swapping(registry: Registry, served: Sequence[str]) -> Iterator[list[str]]:
    """Move the pointer every two seconds of a turn, in a thread; yield the loads that were served by then."""
    ended, swaps = threading.Event(), list[str]()

    def swap() -> None:
        current = registry.current()
        live = VERSIONS.index(current[0].version) if current else 1
        for number in range(1, 1 + round(TURN_S / EVERY_S)):
            version = VERSIONS[(live + number) % 2]
            registry.activate(version, at=datetime.now(UTC))
            is_over = ended.wait(EVERY_S)
            if served[-1] == version:
                swaps.append(version)
            if is_over:
                return

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield swaps
    finally:
        ended.set()
        thread.join()


@contextmanager
def _recsvc(folder: Path) -> Iterator[str]:
    with running(recsvc_of(folder, MODEL_POLL_INTERVAL_S="0.2", LOG_LEVEL="warning")) as service:
        yield service.address
