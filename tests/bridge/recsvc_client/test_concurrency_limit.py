"""The adaptive concurrency limit, against simulated servers."""

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, consumes, invariant, multiple, rule

from bridge.recsvc_client.concurrency_limit import Limiter, LimiterPolicy, Slot
from tests.bridge.support.clock import FakeClock

POLICY = LimiterPolicy(least=2, initial=6, most=12, samples=3, window_s=0.1, baseline_s=5)


class LimiterMachine(RuleBasedStateMachine):
    """Calls overlap in any way, end in any way, and time passes between them."""

    slots: Bundle[Slot] = Bundle("slots")

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.limiter = Limiter(POLICY, self.clock)
        self.under_way = 0

    @rule(target=slots)
    def acquire(self) -> Slot | MultipleResults[Slot]:
        allowed = self.under_way < self.limiter.limit
        slot = self.limiter.acquire()
        assert (slot is not None) == allowed
        if slot is None:
            return multiple()
        self.under_way += 1
        return slot

    @rule(slot=consumes(slots), latency_s=st.none() | st.floats(0, 0.2) | st.just(math.inf))
    def release(self, slot: Slot, latency_s: float | None) -> None:
        before = self.limiter.limit
        self.limiter.release(slot, latency_s)
        self.under_way -= 1
        if latency_s is None:
            assert self.limiter.limit == before, "an end that says nothing of load has moved the limit"

    @rule(seconds=st.sampled_from([0.01, 0.1, 1.0, 6.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def stays_in_range(self) -> None:
        assert POLICY.least <= self.limiter.limit <= POLICY.most
        assert self.limiter.in_flight == self.under_way


LimiterMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60)
TestLimiter = pytest.mark.timeout(60)(LimiterMachine.TestCase)


@dataclass
class Outcome:
    """What one stretch of simulated time came to."""

    latencies: list[float] = field(default_factory=list)
    shed: int = 0

    @property
    def shed_share(self) -> float:
        return self.shed / (self.shed + len(self.latencies))


@dataclass
class Simulation:
    """A limiter before a server with some workers and an endless queue; arrivals are a Poisson process."""

    workers: int
    service_s: Callable[[], float]
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.limiter = Limiter(LimiterPolicy(), self.clock)
        self.free_at = [self.clock.now] * self.workers
        self.ends: list[tuple[float, float, Slot]] = []

    def run(self, rate: float, seconds: float) -> Outcome:
        outcome, until = Outcome(), self.clock.now + seconds
        arrival = self.clock.now
        while (arrival := arrival + self.rng.expovariate(rate)) < until:
            self._finish(arrival, outcome)
            self.clock.now = arrival
            slot = self.limiter.acquire()
            if slot is None:
                outcome.shed += 1
            else:
                heapq.heappush(self.ends, (self._serve(), arrival, slot))
        return outcome

    def _serve(self) -> float:
        end = max(heapq.heappop(self.free_at), self.clock.now) + self.service_s()
        heapq.heappush(self.free_at, end)
        return end

    def _finish(self, now: float, outcome: Outcome) -> None:
        while self.ends and self.ends[0][0] <= now:
            end, began, slot = heapq.heappop(self.ends)
            self.clock.now = end
            outcome.latencies.append(end - began)
            self.limiter.release(slot, end - began if end - began < 0.15 else math.inf)


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[int(len(values) * share)]


@pytest.mark.parametrize(("workers", "service_ms"), [(1, 2), (1, 5), (1, 10), (8, 10), (4, 40)])
def test_overload_keeps_the_server_busy_and_its_queue_short(workers: int, service_ms: float) -> None:
    """At three times capacity no call is lost to its deadline, and the server works all the time."""
    simulation = Simulation(workers, lambda: service_ms / 1000)
    capacity = workers * 1000 / service_ms
    simulation.run(3 * capacity, 3)
    outcome = simulation.run(3 * capacity, 60)
    assert _percentile(outcome.latencies, 0.99) < 0.15
    assert len(outcome.latencies) / 60 > 0.9 * capacity


def test_light_load_is_never_shed() -> None:
    simulation = Simulation(1, lambda: simulation.rng.expovariate(1 / 0.002))
    simulation.run(50, 2)
    assert simulation.run(100, 60).shed_share < 0.002


@pytest.mark.parametrize("extra_ms", [50, 100])
def test_slow_server_is_not_taken_for_an_overloaded_one(extra_ms: int) -> None:
    """When each call takes longer but none waits for another, personal pages are back within a second."""
    delay_ms = 0.0
    simulation = Simulation(400, lambda: (2 + delay_ms) / 1000)
    assert simulation.run(300, 10).shed_share < 0.01
    delay_ms = extra_ms
    assert simulation.run(300, 5).shed_share < 0.15
    assert simulation.run(300, 60).shed_share < 0.03


def test_burst_on_a_calm_day_is_served() -> None:
    """Twenty callers at once are not turned away for measurement's sake, whenever they come."""
    simulation = Simulation(8, lambda: 0.004)
    for _ in range(50):
        simulation.run(5, 3)
        slots = [simulation.limiter.acquire() for _ in range(20)]
        assert None not in slots
        for slot in slots:
            assert slot is not None
            simulation.limiter.release(slot, 0.006)


def test_recovers_after_overload() -> None:
    simulation = Simulation(1, lambda: 0.005)
    simulation.run(600, 20)
    simulation.run(100, 2)
    assert simulation.run(100, 10).shed_share < 0.01


def test_fast_failures_do_not_raise_the_limit() -> None:
    """A server that refuses connections at once answers quickly, but proves no capacity."""
    clock = FakeClock()
    limiter = Limiter(LimiterPolicy(), clock)
    for _ in range(1000):
        slot = limiter.acquire()
        assert slot is not None
        clock.now += 0.001
        limiter.release(slot, None)
    assert limiter.limit <= LimiterPolicy().initial
