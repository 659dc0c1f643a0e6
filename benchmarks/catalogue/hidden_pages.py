"""Processor time of the bridge a page with 1,000 hidden videos, beside a bridge where nothing is hidden.

Two bridges with databases of their own, in front of one recsvc that knows nothing of what is hidden, take turns in
short stretches: with hidden videos that are on no page, then with some that are, so that pages must be filled up.
"""

import asyncio
from statistics import median
from typing import Any

import numpy as np
from grpc import aio

from benchmarks import knob
from benchmarks.catalogue.calls import hide, restore, stub
from benchmarks.feed.stack import USERS, VIDEOS, Peers, Users, running_peers
from benchmarks.machine import cpu_seconds
from benchmarks.report import Row
from bridge.postgres.migrate import migrate
from deploy.local.program import Service
from retrain.evaluation.confidence import interval

ROUNDS = knob.whole("CATALOGUE_ROUNDS", 12)
CALLS = 400
CONCURRENT = 4
HIDDEN = 1_000
WARM_UP = 600


def run() -> dict[str, list[Row]]:
    """Return the table."""
    with running_peers() as peers:
        recsvc = peers.recsvc("recsvc")
        plain = peers.bridge("plain", recsvc.address)
        url = peers.postgres.create_database("hidden")
        migrate(url)
        hiding = peers.bridge("hiding", recsvc.address, DATABASE_URL=url, KAFKA_BOOTSTRAP_SERVERS="")
        alike = peers.bridge("alike", recsvc.address)
        services = {"nothing hidden": plain, "hiding": hiding, "nothing hidden either": alike}
        return {"Processor time a page": asyncio.run(_measure(services, peers))}


async def _measure(services: dict[str, Service], _: Peers) -> list[Row]:
    users = {name: Users(service.address) for name, service in services.items()}
    pids = {name: service.child.pid if service.child else 0 for name, service in services.items()}
    rows: list[Row] = []
    async with aio.insecure_channel(services["hiding"].address) as channel:
        catalogue = stub(channel)
        for case, names in (
            ("1,000 hidden, on no page", [f"gone-{n}" for n in range(HIDDEN)]),
            ("1,000 hidden of the 20,000 videos", [f"v{n}" for n in range(0, VIDEOS, VIDEOS // HIDDEN)]),
        ):
            results = await hide(catalogue, names)
            rows += await _rounds(case, users, pids)
            await restore(catalogue, results)
    return rows


async def _rounds(case: str, users: dict[str, Users], pids: dict[str, int]) -> list[Row]:
    spent: dict[str, list[float]] = {name: [] for name in users}
    pages: dict[str, dict[str, int]] = {name: {} for name in users}
    for one in users.values():
        await _calls(one, WARM_UP, {})
    for _ in range(ROUNDS):
        for name, one in users.items():
            before = cpu_seconds(pids[name])
            await _calls(one, CALLS, pages[name])
            spent[name].append((cpu_seconds(pids[name]) - before) / CALLS)
    return [_row(case, name, spent, pages[name]) for name in users]


async def _calls(users: Users, count: int, pages: dict[str, int]) -> None:
    async def caller(first: int) -> None:
        for number in range(first, first + count // CONCURRENT):
            outcome = await users.page(number % USERS)
            pages[outcome] = pages.get(outcome, 0) + 1

    await asyncio.gather(*[caller(n * count) for n in range(CONCURRENT)])


def _row(case: str, name: str, spent: dict[str, list[float]], pages: dict[str, int]) -> dict[str, Any]:
    ratios = np.array(spent[name]) / np.array(spent["nothing hidden"])
    found = interval(ratios, seed=1)
    return {
        "case": case,
        "bridge": name,
        "CPU µs a page": round(1e6 * median(spent[name])),
        "x nothing hidden, median": round(float(np.median(ratios)), 3),
        "95 % of the mean": f"{found.low:.3f} to {found.high:.3f}",
        "full personal pages": f"{pages.get('personal', 0)} of {sum(pages.values())}",
    }
