"""Stops calls to a peer that fails, and probes with single calls whether it has recovered.

It opens on consecutive failures or on a failure ratio over a sliding window of time buckets. All methods
belong to one thread. The states are those of M. Nygard, "Release It!", chapter "Circuit Breaker".
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from bridge.domain.deadline import Clock
from bridge.recsvc_client.status_codes import CallOutcome


class BreakerState(IntEnum):
    """States of a breaker; the values are those of the gauge."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakerPolicy:
    """Conditions that open a breaker, and the time that it stays open."""

    consecutive_failures: int = 5
    failure_ratio: float = 0.5
    minimum_volume: int = 20
    """Calls in the window below which the ratio says nothing."""
    window_s: float = 10.0
    buckets: int = 10
    open_s: float = 2.0
    """Seconds until an open breaker lets a probe through."""


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to make one call; `probe` marks the only call allowed now."""

    generation: int
    probe: bool


StateListener: TypeAlias = Callable[[BreakerState, BreakerState], None]
"""Called at each change with the state before and the state after."""


class Breaker:
    """A breaker in front of one peer."""

    def __init__(self, policy: BreakerPolicy, clock: Clock, on_change: StateListener) -> None:
        self._policy = policy
        self._clock = clock
        self._on_change = on_change
        self._state = BreakerState.CLOSED
        self._generation = 0
        self._probing = False
        self._opened_at = 0.0
        self._consecutive = 0
        self._window = _Window(policy.window_s / policy.buckets, policy.buckets)

    @property
    def state(self) -> BreakerState:
        """Return the state as of the last call."""
        return self._state

    def acquire(self) -> Permit | None:
        """Return a permit that must be given back by `record`, or None when no call may be made."""
        if self._state is BreakerState.OPEN and self._clock() - self._opened_at >= self._policy.open_s:
            self._enter(BreakerState.HALF_OPEN)
        if self._state is BreakerState.OPEN or self._probing:
            return None
        self._probing = self._state is BreakerState.HALF_OPEN
        return Permit(self._generation, self._probing)

    def allow_probe(self) -> None:
        """Let the next call through an open breaker be the probe: the peer may be back."""
        if self._state is BreakerState.OPEN:
            self._enter(BreakerState.HALF_OPEN)

    def record(self, permit: Permit, verdict: CallOutcome) -> None:
        """Record how a call ended; calls begun before the last change of state no longer count."""
        if permit.generation != self._generation:
            return
        if permit.probe:
            self._judge_probe(verdict)
        elif verdict is not CallOutcome.NEUTRAL:
            self._judge(failed=verdict is CallOutcome.FAILURE)

    def _judge_probe(self, verdict: CallOutcome) -> None:
        self._probing = False
        if verdict is CallOutcome.SUCCESS:
            self._enter(BreakerState.CLOSED)
        elif verdict is CallOutcome.FAILURE:
            self._enter(BreakerState.OPEN)

    def _judge(self, *, failed: bool) -> None:
        self._consecutive = self._consecutive + 1 if failed else 0
        self._window.add(self._clock(), failed=failed)
        if failed and (self._consecutive >= self._policy.consecutive_failures or self._ratio_exceeded()):
            self._enter(BreakerState.OPEN)

    def _ratio_exceeded(self) -> bool:
        calls, failures = self._window.totals()
        return calls >= self._policy.minimum_volume and failures >= self._policy.failure_ratio * calls

    def _enter(self, state: BreakerState) -> None:
        before, self._state = self._state, state
        self._generation += 1
        self._probing = False
        self._consecutive = 0
        self._window.clear()
        if state is BreakerState.OPEN:
            self._opened_at = self._clock()
        self._on_change(before, state)


class _Window:
    """Calls and failures of the last buckets of time."""

    def __init__(self, bucket_s: float, buckets: int) -> None:
        self._bucket_s = bucket_s
        self._buckets = buckets
        self._counts: deque[list[int]] = deque()  # [bucket number, calls, failures], oldest first
        self._calls = self._failures = 0

    def add(self, now: float, *, failed: bool) -> None:
        number = int(now / self._bucket_s)
        while self._counts and self._counts[0][0] <= number - self._buckets:
            _, calls, failures = self._counts.popleft()
            self._calls -= calls
            self._failures -= failures
        if not self._counts or self._counts[-1][0] != number:
            self._counts.append([number, 0, 0])
        self._counts[-1][1] += 1
        self._counts[-1][2] += failed
        self._calls += 1
        self._failures += failed

    def totals(self) -> tuple[int, int]:
        return self._calls, self._failures

    def clear(self) -> None:
        self._counts.clear()
        self._calls = self._failures = 0
