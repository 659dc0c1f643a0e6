"""Compares pages with and without hedging on two replicas of recsvc, one of which is slow or hangs at times.

Three bridges take turns under the same load and the same faults: channels that take turns (the balancing of gRPC's
round robin), the fewest calls under way, and that with hedged attempts.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import numpy as np

from benchmarks import knob
from benchmarks.feed.stack import PAGE, USERS, FaultProxy, Peers, running_peers
from benchmarks.open_loop import Load, drive
from benchmarks.report import Row
from bridge.domain.deadline import Deadline
from bridge.domain.page import PageQuery, PageRequest
from bridge.recsvc_client.circuit_breaker import Breaker, BreakerPolicy
from bridge.recsvc_client.client import GaveUp, RecsvcClient
from bridge.recsvc_client.concurrency_limit import Limiter, LimiterPolicy
from bridge.recsvc_client.hedging import Hedge, HedgePolicy
from bridge.recsvc_client.load_balancer import Balancer
from bridge.recsvc_client.replicas import ReplicaSet
from bridge.recsvc_client.retry_budget import BudgetPolicy, RetryBudget

SECONDS = knob.number("FEED_HEDGING_S", 6.0)
RATE = 150.0
BUDGET_S = 0.150

Disturb = Callable[[], Awaitable[None]]


class TakingTurns(Balancer):  # type: ignore[type-arg]  # of whatever it is given
    """Round-robin balancer, which ignores the outcome of calls."""

    def _choose(self, tried):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  # as in its base
        return min(self._replicas, key=lambda one: (one in tried, one.used))


def run() -> dict[str, list[Row]]:
    """Run the comparison."""
    with running_peers() as peers:
        return {"Hedging between two replicas": asyncio.run(_measure(peers))}


async def _measure(peers: Peers) -> list[Row]:
    replicas = [peers.recsvc(f"recsvc-{number}") for number in range(2)]
    proxies = [FaultProxy(replica.address) for replica in replicas]
    for proxy in proxies:
        peers.stack.callback(proxy.close)
    disturbances: dict[str, Disturb | None] = {
        "none": None,
        "one +60 ms half of the time": lambda: _slow_now_and_then(proxies[0]),
        "one hung 0.2 s of each second": lambda: _hang_now_and_then(proxies[0]),
    }
    rows: list[Row] = []
    for fault, disturb in disturbances.items():
        for way in ("take turns", "fewest under way", "fewest under way, hedged"):
            proxies[0].tell()
            client = _client(hedged="hedged" in way)
            replica_set = ReplicaSet(client, ",".join(proxy.address for proxy in proxies), None)
            await replica_set.warm_up(5)
            if way == "take turns":
                client._balancer.__class__ = TakingTurns  # noqa: SLF001  # what is compared with
            rows.append({"fault": fault, "balancing": way, **await _load(client, disturb)})
            print(rows[-1], flush=True)
            await replica_set.close()
    return rows


def _client(*, hedged: bool) -> RecsvcClient:
    clock = time.monotonic
    return RecsvcClient(
        Breaker(BreakerPolicy(), clock, lambda _, __: None),
        Limiter(LimiterPolicy(), clock),
        RetryBudget(BudgetPolicy()),
        hedge=Hedge(HedgePolicy()) if hedged else None,
        backoff=lambda _: 0.005,
    )


async def _load(client: RecsvcClient, disturb: Disturb | None) -> dict[str, float | str]:
    attempts = 0

    async def page(number: int) -> str:
        nonlocal attempts
        query = PageQuery(PageRequest(user_id=f"u{number % USERS}", page_size=PAGE))
        outcome = await client.recommend(query, Deadline(time.monotonic() + BUDGET_S))
        attempts += outcome.attempts
        return outcome.reason if isinstance(outcome, GaveUp) else "personal"

    task = asyncio.ensure_future(disturb()) if disturb else None
    load = await drive(page, rate=RATE, seconds=SECONDS)
    if task:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return _summary(load, attempts)


def _summary(load: Load, attempts: int) -> dict[str, float | str]:
    personal = [took for took, outcome in zip(load.latencies_ms, load.outcomes, strict=True) if outcome == "personal"]
    return {
        "p50 ms": round(load.percentile(50), 1),
        "p95 ms": round(load.percentile(95), 1),
        "p99 ms": round(load.percentile(99), 1),
        "p99 of personal ms": round(float(np.percentile(personal, 99)), 1),
        "personal %": round(100 * load.share("personal"), 2),
        "attempts/call": round(attempts / len(load.outcomes), 3),
    }


async def _slow_now_and_then(proxy: FaultProxy) -> None:
    while True:
        await asyncio.to_thread(proxy.tell, delay_ms=60)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(proxy.tell)
        await asyncio.sleep(0.5)


async def _hang_now_and_then(proxy: FaultProxy) -> None:
    while True:
        proxy.stop()
        try:
            await asyncio.sleep(0.2)
        finally:
            proxy.resume()
        await asyncio.sleep(0.8)
