"""Watches the bridge's memory and file descriptors under changing faults and many cancelled calls.

FEED_SOAK_CALLS says how many (a million take about half an hour); by default it ends after FEED_SOAK_S seconds.
"""

import asyncio
import random
import time
from collections import Counter
from itertools import cycle
from typing import Any

from grpc import aio

from benchmarks import knob
from benchmarks.feed.stack import PAGE, USERS, FaultProxy, running_peers
from benchmarks.machine import open_files, resident_bytes
from benchmarks.report import Row
from videowindow.feed.v1 import feed_pb2 as pb
from videowindow.feed.v1.feed_pb2_grpc import FeedServiceStub

SECONDS = knob.number("FEED_SOAK_S", 60.0)
CALLS = knob.whole("FEED_SOAK_CALLS", 0, least=0)
CALLERS = 8
CANCELLED = 0.1
"""Share of calls whose caller goes away within 20 ms."""
FAULTS: tuple[dict[str, Any], ...] = (
    {},
    {"code": "UNAVAILABLE", "share": 0.3},
    {"delay_ms": 30},
    {"reset_share": 0.02},
    {"delay_ms": 400},
    {"code": "INTERNAL", "share": 1.0},
)
FAULT_S = 1.5
SLICES = 10
MEBIBYTE = 1 << 20


class Soak:
    """Calls a bridge until enough calls were made, or the time is over."""

    def __init__(self, address: str) -> None:
        self._feed: Any = FeedServiceStub(aio.insecure_channel(address))
        self._rng = random.Random(1)
        self._deadline = time.monotonic() + SECONDS
        self.calls = 0
        self.outcomes: Counter[str] = Counter()

    @property
    def share(self) -> float:
        """Return the progress of the run, 0 to 1."""
        return self.calls / CALLS if CALLS else 1 - max(0.0, self._deadline - time.monotonic()) / SECONDS

    async def call_on(self) -> None:
        """Make one call after the other."""
        while self.share < 1:
            self.calls += 1
            self.outcomes[await self._one()] += 1

    async def _one(self) -> str:
        request = pb.GetRecommendationsRequest(user_id=f"u{self._rng.randrange(USERS)}", page_size=PAGE)
        call = self._feed.GetRecommendations(request, timeout=1)
        if self._rng.random() < CANCELLED:
            await asyncio.sleep(self._rng.random() * 0.02)
            call.cancel()
        try:
            reply = await call
        except asyncio.CancelledError:
            return "cancelled"
        except aio.AioRpcError as error:
            return error.code().name
        return "answered" if len(reply.videos) == PAGE else "short"


def run() -> dict[str, list[Row]]:
    """Run the soak."""
    with running_peers() as peers:
        recsvc = peers.recsvc("recsvc")
        proxy = FaultProxy(recsvc.address)
        peers.stack.callback(proxy.close)
        bridge = peers.bridge("bridge", proxy.address)
        pid = bridge.child.pid if bridge.child else 0
        return {"Soak with faults and cancellations": asyncio.run(_measure(bridge.address, proxy, pid))}


async def _measure(address: str, proxy: FaultProxy, pid: int) -> list[Row]:
    soak = Soak(address)
    disturbing = asyncio.ensure_future(_disturb(proxy))
    callers = asyncio.gather(*[soak.call_on() for _ in range(CALLERS)])
    rows: list[Row] = []
    for number in range(1, SLICES + 1):
        while not callers.done() and soak.share < number / SLICES:
            await asyncio.wait([callers], timeout=0.1)
        rows.append(
            {
                "calls": soak.calls,
                "RSS MB": round(resident_bytes(pid) / MEBIBYTE, 1),
                "open files": open_files(pid),
                "outcomes": " ".join(f"{name} {count}" for name, count in soak.outcomes.most_common()),
            }
        )
    await callers
    disturbing.cancel()
    await asyncio.gather(disturbing, return_exceptions=True)
    return rows


async def _disturb(proxy: FaultProxy) -> None:
    for faults in cycle(FAULTS):
        await asyncio.to_thread(proxy.tell, **faults)
        await asyncio.sleep(FAULT_S)
