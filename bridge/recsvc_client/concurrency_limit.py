"""Adapts a limit on concurrent calls to a peer: lowers it while calls take longer than a short queue explains.

The gradient controller of Envoy's adaptive concurrency filter, which follows Netflix's concurrency-limits: the median
latency of a short window is compared with a baseline, that of calls that began with hardly any others under way. A slow
peer that answers at the same pace whatever it is asked is so told apart from one whose queue grows. Unlike in Envoy,
calls are held back for the baseline's sake only when there has been no such call for long, or before the limit is
lowered by much: a new latency without a queue must not be mistaken for one.
"""

import math
from dataclasses import dataclass
from statistics import median_low

from bridge.domain.deadline import Clock


@dataclass(frozen=True, kw_only=True, slots=True)
class LimiterPolicy:
    """Range and pace of a limit."""

    least: int = 3
    """Calls that are always allowed; a call that began with no more under way counts for the baseline."""
    initial: int = 40
    most: int = 400
    tolerance_s: float = 0.025
    """Seconds above the baseline that count as no queue."""
    window_s: float = 0.1
    """Seconds between two adjustments."""
    samples: int = 10
    """Calls that a window is judged by."""
    baseline_samples: int = 5
    """Calls that a baseline is judged by."""
    first_baseline_s: float = 1.0
    """Seconds after which calls are held back for the first baseline."""
    baseline_s: float = 15.0
    """Seconds that a baseline is good for."""
    doubt_s: float = 5.0
    """Seconds between two measurements that are made before the limit is lowered by much."""
    doubt: float = 0.75
    """Factor of the limit that is much."""


@dataclass(frozen=True, slots=True)
class Slot:
    """The right to make one call."""

    started: float
    alone: bool
    """Whether hardly any calls were under way when it began."""


class Limiter:
    """Limits the calls that one event loop has under way to one peer.

    Args:
        policy: Its range and pace.
        clock: Monotonic seconds.
    """

    def __init__(self, policy: LimiterPolicy, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock
        self._limit = float(max(policy.initial, policy.least))
        self._baseline = math.inf
        self._doubted_at = -math.inf
        self._measure_at = clock() + policy.first_baseline_s
        self._in_flight = 0
        self._peak = 0
        self._alone: list[float] = []
        self._latencies: list[float] = []
        self._window_from = clock()

    @property
    def limit(self) -> int:
        """Return the number of calls that may be under way now."""
        return self._policy.least if self._clock() >= self._measure_at else int(self._limit)

    @property
    def in_flight(self) -> int:
        """Return the number of calls under way."""
        return self._in_flight

    def acquire(self) -> Slot | None:
        """Return a slot that `release` takes back, or None when the call must not be made."""
        if self._in_flight >= self.limit:
            return None
        self._in_flight += 1
        self._peak = max(self._peak, self._in_flight)
        return Slot(self._clock(), self._in_flight <= self._policy.least)

    def release(self, slot: Slot, latency_s: float | None) -> None:
        """Release a slot, and learn from the latency of its call.

        Args:
            slot: The call.
            latency_s: How long it took; infinite when the peer was too late or turned it away for load, None when its
                end says nothing of load.
        """
        self._in_flight -= 1
        if latency_s is None:
            return
        if slot.alone:
            self._measure(latency_s)
        self._latencies.append(latency_s)
        if len(self._latencies) >= self._policy.samples and self._clock() - self._window_from >= self._policy.window_s:
            self._adjust(median_low(self._latencies))

    def _measure(self, latency: float) -> None:
        self._alone.append(latency)
        if len(self._alone) < self._policy.baseline_samples:
            return
        found = median_low(self._alone)
        if math.isfinite(found):
            self._baseline = found
        self._alone = []
        self._measure_at = self._clock() + self._policy.baseline_s

    def _adjust(self, latency: float) -> None:
        self._baseline = min(self._baseline, latency)
        gradient = self._gradient(latency)
        if gradient < self._policy.doubt and self._clock() - self._doubted_at >= self._policy.doubt_s:
            self._alone = []
            self._doubted_at = self._measure_at = self._clock()
        else:
            self._move(self._limit * gradient)
        self._latencies = []
        self._peak = self._in_flight
        self._window_from = self._clock()

    def _move(self, wanted: float) -> None:
        if self._peak * 2 >= self._limit:  # an idle limit proves nothing, and must not grow
            wanted += math.sqrt(wanted)
        self._limit = min(max(wanted, self._policy.least), self._policy.most)

    def _gradient(self, latency: float) -> float:
        if not math.isfinite(latency):
            return 0.5
        return min(1.0, max(0.5, (self._baseline + self._policy.tolerance_s) / max(latency, 1e-9)))
