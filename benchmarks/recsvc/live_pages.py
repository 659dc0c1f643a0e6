"""Compares the cost of pages for users with live interactions with another checkout's: `BASELINE=<checkout>`.

Both servers stand on one core, the caller on another; they take turns in short stretches, in an order that changes.
Users have 0, 50 and 1,000 interactions since training, told by UpdateUserProfile, and come back: nothing but the look
at what is known of them stands between them and their pages. Processor time a call is that of the process that
answers; the follower beside it has nothing to do. The ratio is the median of the rounds', with the interval of 95 % of
its bootstrap. Without BASELINE there are no ratios.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median
from typing import Final

import grpc
import numpy as np
from grpc import aio

from benchmarks import knob
from benchmarks.feed.fault_proxy import SERVICE
from benchmarks.feed.model import publish_random_model
from benchmarks.machine import recsvc_workers
from benchmarks.recsvc.call import Server, on_core
from benchmarks.report import Row
from deploy.local.child_process import Child
from deploy.local.program import ROOT
from deploy.probe import serves
from servicekit.process.ports import free_port
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

VIDEOS: Final = 20_000
DIMENSIONS: Final = 64
PAGE: Final = 20
ROUNDS: Final = knob.whole("RECSVC_LIVE_PAGES_ROUNDS", 12, least=10)
CALLS: Final = knob.whole("RECSVC_LIVE_PAGES_CALLS", 2_000)
"""Calls of each kind in a round."""
LIVE: Final = (0, 50, 1_000)
"""Interactions of a user since training."""
USERS: Final = 200
"""Of each kind; they come back."""
START_S: Final = 120.0
TRIES: Final = 100
BUDGET: Final = 1.05
TODAY, NOW = "baseline", "this checkout"


def run() -> dict[str, list[Row]]:
    """Run the comparison."""
    baseline = os.environ.get("BASELINE")
    checkouts = {**({TODAY: Path(baseline)} if baseline else {}), NOW: ROOT}
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="bench-live-") as name, ExitStack() as stack:
        folder = Path(name)
        users = USERS * len(LIVE)
        publish_random_model(folder / "models", "20250902-1", users=users, videos=VIDEOS, dimensions=DIMENSIONS)
        servers = {
            name: stack.enter_context(_recsvc(checkout, folder, f"cache-{number}", cores[0]))
            for number, (name, checkout) in enumerate(checkouts.items())
        }
        os.sched_setaffinity(0, {cores[-1]})
        stack.callback(os.sched_setaffinity, 0, cores)
        rows = asyncio.run(_measure(servers))
    return {f"Recommend, {VIDEOS} videos x {DIMENSIONS}, page of {PAGE}; budget: {BUDGET} x baseline": rows}


async def _measure(addresses: Mapping[str, tuple[int, str]]) -> list[Row]:
    requests = {live: [_request(live, index) for index in range(USERS)] * -(-CALLS // USERS) for live in LIVE}
    async with AsyncExitStack() as stack:
        servers = {
            name: await stack.enter_async_context(_connected(pid, address))
            for name, (pid, address) in addresses.items()
        }
        for server in servers.values():
            for live in LIVE:
                await _tell(server.channel, live)
                await server.call("warm up", requests[live])
        for number in range(ROUNDS):
            for live in LIVE:
                for server in [*servers.values()][:: 1 if number % 2 else -1]:
                    await server.call(str(live), requests[live][:CALLS])
    return [_row(live, {name: server.spent_us[str(live)] for name, server in servers.items()}) for live in LIVE]


@asynccontextmanager
async def _connected(pid: int, address: str) -> AsyncIterator[Server]:
    async with aio.insecure_channel(address) as channel:
        yield Server(pid, channel)


async def _tell(channel: aio.Channel, live: int) -> None:
    """Send the server so many interactions of each user of a kind."""
    update: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/UpdateUserProfile")
    rng = np.random.default_rng(live)
    for user in range(USERS if live else 0):
        done = [
            pb.Interaction(video_id=f"v{video}", interaction_type=pb.INTERACTION_TYPE_LIKE)
            for video in rng.choice(VIDEOS, live, replace=False).tolist()
        ]
        request = pb.UpdateUserProfileRequest(user_id=_user(live, user), interactions=done).SerializeToString()
        for attempt in range(TRIES):
            try:
                await update(request, timeout=20)
                break
            except grpc.RpcError:  # the follower is not done with the store yet
                if attempt == TRIES - 1:
                    raise
                await asyncio.sleep(0.1)


def _user(live: int, index: int) -> str:
    return f"u{LIVE.index(live) * USERS + index}"


def _request(live: int, index: int) -> bytes:
    return pb.RecommendRequest(user_id=_user(live, index), page_size=PAGE).SerializeToString()


def _row(live: int, spent_us: Mapping[str, Sequence[float]]) -> Row:
    row: dict[str, float | str] = {"live interactions": live}
    row |= {f"{name}, CPU µs": round(median(spent), 1) for name, spent in spent_us.items()}
    if TODAY in spent_us:
        ratios = np.array(spent_us[NOW]) / np.array(spent_us[TODAY])
        chosen = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
        low, high = np.percentile(np.median(chosen, axis=1), [2.5, 97.5])
        row["x baseline"] = f"{np.median(ratios):.3f} [{low:.3f}, {high:.3f}]"
    return row


@contextmanager
def _recsvc(checkout: Path, folder: Path, cache: str, core: int) -> Iterator[tuple[int, str]]:
    """Run the recsvc of a checkout on one core; yield the process that answers, and its address."""
    address = f"127.0.0.1:{free_port()}"
    environment = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG"}} | {
        "PYTHONPATH": str(checkout),
        "RECSVC_LISTEN": address,
        "RECSVC_WORKERS": "1",
        "RECSVC_PRECOMPUTED_USERS": "0",
        "MODEL_STORE_URL": (folder / "models").as_uri(),
        "MODEL_CACHE_DIR": str(folder / cache),
    }
    command = [sys.executable, "-m", "recsvc"]
    with on_core(core):
        child = Child.start(cache, command, log=folder / f"{cache}.log", env=environment, cwd=checkout)
    try:
        child.wait_until(lambda: serves(address), timeout_s=START_S, what="does not serve")
        (pid,) = recsvc_workers(child.pid)
        yield pid, address
    finally:
        child.stop(timeout_s=15)
