"""Drives open-loop load: calls start when they are due, whether or not earlier ones have ended.

A latency runs from the intended start, so a stall of the server, or of this driver, is charged to every call that it
delays
(Gil Tene, "How NOT to Measure Latency": coordinated omission).
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Call = Callable[[int], Awaitable[str]]
"""Makes call number i and returns its outcome, a short name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """The measurements of one run."""

    rate: float
    """Calls due a second."""
    latencies_ms: NDArray[np.float64]
    """(n,) from each call's intended start to its end."""
    outcomes: list[str]
    """Outcome of each call; the name of the exception where it raised."""
    worst_lag_ms: float
    """The latest start: how far the driver itself fell behind."""

    def percentile(self, q: float) -> float:
        """Return a percentile of the latencies in milliseconds, without interpolation downwards."""
        return float(np.percentile(self.latencies_ms, q, method="higher"))

    def counts(self) -> Counter[str]:
        """Return the number of calls by outcome."""
        return Counter(self.outcomes)

    def share(self, outcome: str) -> float:
        """Return the share of calls with this outcome."""
        return self.counts()[outcome] / max(1, len(self.outcomes))

    def summary(self) -> dict[str, float | str]:
        """Return one row of a report."""
        return {
            "rate/s": round(self.rate),
            "calls": len(self.outcomes),
            "p50 ms": round(self.percentile(50), 2),
            "p99 ms": round(self.percentile(99), 2),
            "max ms": round(self.percentile(100), 2),
            "outcomes": " ".join(f"{name} {count}" for name, count in self.counts().most_common()),
        }


async def arrivals(rate: float, *, seed: int = 0) -> AsyncGenerator[float, None]:
    """Yield when each call of a Poisson process is due, in the event loop's time, as soon as that has come; forever."""
    rng = np.random.default_rng(seed)
    loop = asyncio.get_running_loop()
    due = loop.time() + 0.05
    while True:
        due += float(rng.exponential(1 / rate))
        wait = due - loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        yield due


async def drive(call: Call, *, rate: float, seconds: float, seed: int = 0) -> Load:
    """Make calls at exponentially distributed intervals (a Poisson process) and wait until all have ended."""
    count = round(rate * seconds)
    latencies = np.zeros(count)
    outcomes = [""] * count
    loop = asyncio.get_running_loop()

    async def one(number: int, due: float) -> None:
        try:
            outcomes[number] = await call(number)
        except Exception as error:  # noqa: BLE001  # an outcome like any other
            outcomes[number] = type(error).__name__
        latencies[number] = (loop.time() - due) * 1000

    lag = 0.0
    async with asyncio.TaskGroup() as running, aclosing(arrivals(rate, seed=seed)) as dues:
        for number in range(count):
            due = await anext(dues)
            lag = max(lag, loop.time() - due)
            running.create_task(one(number, due))
    return Load(rate=rate, latencies_ms=latencies, outcomes=outcomes, worst_lag_ms=lag * 1000)


def together(loads: Sequence[Load]) -> Load:
    """Merge runs at the same rate into one."""
    return Load(
        rate=loads[0].rate,
        latencies_ms=np.concatenate([load.latencies_ms for load in loads]),
        outcomes=[outcome for load in loads for outcome in load.outcomes],
        worst_lag_ms=max(load.worst_lag_ms for load in loads),
    )
