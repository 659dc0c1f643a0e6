"""Decides when a second attempt is worth making while the first still runs: after the recent 95th percentile.

The hedged requests of J. Dean and L. Barroso, "The Tail at Scale".
"""

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class HedgePolicy:
    """Bounds of the wait for a first attempt."""

    quantile: float = 0.95
    sample: int = 200
    """Latest replies that the quantile is taken of."""
    every: int = 20
    """Replies between two computations of it."""
    least_s: float = 0.010
    most_s: float = 0.060
    """A second attempt needs time, too."""
    initial_s: float = 0.050


class Hedge:
    """Tracks the delay before a second attempt."""

    def __init__(self, policy: HedgePolicy) -> None:
        self._policy = policy
        self._latencies: deque[float] = deque(maxlen=policy.sample)
        self._fresh = 0
        self._delay_s = policy.initial_s

    @property
    def delay_s(self) -> float:
        """Return the seconds to wait for the first attempt."""
        return self._delay_s

    def observe(self, latency_s: float) -> None:
        """Record how long a reply took, from the start of its own attempt."""
        self._latencies.append(latency_s)
        self._fresh += 1
        if self._fresh < self._policy.every:
            return
        self._fresh = 0
        ordered = sorted(self._latencies)
        found = ordered[min(len(ordered) - 1, int(len(ordered) * self._policy.quantile))]
        self._delay_s = min(max(found, self._policy.least_s), self._policy.most_s)
