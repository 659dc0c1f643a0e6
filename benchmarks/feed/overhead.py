"""Measures the bridge beside a direct call of recsvc (median latency) and beside a minimal proxy (processor time).

Three ways to one recsvc take turns in short stretches: direct, by a proxy that only hands bytes on, by the bridge.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from statistics import median

from grpc import aio

from benchmarks import knob
from benchmarks.feed.stack import PAGE, USERS, Users, running_peers
from benchmarks.machine import cpu_seconds
from benchmarks.report import Row
from deploy.local.program import ROOT
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb
from videowindow.lightfm.v2025_9.lightfm_recommendation_pb2_grpc import RecommendationServiceStub

ROUNDS = knob.whole("FEED_OVERHEAD_ROUNDS", 8)
CALLS = 400
"""Calls of each way in a round, one after the other."""
CONCURRENT = 4
"""Callers when processor time is taken."""

Call = Callable[[int], Awaitable[object]]


def run() -> dict[str, list[Row]]:
    """Run the comparison."""
    with running_peers() as peers:
        recsvc = peers.recsvc("recsvc")
        bridge = peers.bridge("bridge", recsvc.address)
        command = [sys.executable, "-m", "benchmarks.feed.minimal_proxy", recsvc.address]
        proxy = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        peers.stack.callback(proxy.wait)
        peers.stack.callback(proxy.kill)
        port = proxy.stdout.readline().strip() if proxy.stdout else ""
        pids = {"proxy": proxy.pid, "bridge": bridge.child.pid if bridge.child else 0}
        return asyncio.run(_measure(recsvc.address, f"127.0.0.1:{port}", bridge.address, pids))


async def _measure(recsvc: str, proxy: str, bridge: str, pids: dict[str, int]) -> dict[str, list[Row]]:
    users = Users(bridge)
    calls: dict[str, Call] = {"direct": _recommend(recsvc), "proxy": _recommend(proxy), "bridge": users.page}
    times: dict[str, list[float]] = {name: [] for name in calls}
    spent: dict[str, list[float]] = {name: [] for name in pids}
    for call in calls.values():
        await _one_by_one(call, 200)
    for _ in range(ROUNDS):
        for name, call in calls.items():
            times[name] += await _one_by_one(call, CALLS)
        for name, pid in pids.items():
            before = cpu_seconds(pid)
            await asyncio.gather(*[_one_by_one(calls[name], CALLS // CONCURRENT) for _ in range(CONCURRENT)])
            spent[name].append((cpu_seconds(pid) - before) / CALLS)
    rows: list[Row] = []
    for name in calls:
        row: dict[str, float | str] = {"way": name, "median ms": round(1000 * median(times[name]), 3)}
        row["added ms"] = round(1000 * (median(times[name]) - median(times["direct"])), 3)
        if name in spent:
            row["CPU µs/call"] = round(1e6 * median(spent[name]))
            row["x proxy"] = round(median(spent[name]) / median(spent["proxy"]), 2)
        rows.append(row)
    return {"The bridge over a direct call": rows}


def _recommend(address: str) -> Call:
    channel = aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
    stub = RecommendationServiceStub(channel)

    async def call(number: int) -> object:
        request = pb.RecommendRequest(user_id=f"u{number * 7919 % USERS}", page_size=PAGE)
        return await stub.Recommend(request, timeout=1)

    return call


async def _one_by_one(call: Call, count: int) -> list[float]:
    times = []
    for number in range(count):
        began = time.perf_counter()
        await call(number)
        times.append(time.perf_counter() - began)
    return times
