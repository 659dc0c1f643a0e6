"""The circuit breaker, against a model that keeps every outcome."""

from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, consumes, invariant, multiple, rule

from bridge.recsvc_client.circuit_breaker import Breaker, BreakerPolicy, BreakerState, Permit
from bridge.recsvc_client.status_codes import CallOutcome
from tests.bridge.support.clock import FakeClock

POLICY = BreakerPolicy(consecutive_failures=4, failure_ratio=0.5, minimum_volume=6, window_s=10, buckets=10, open_s=2.0)
CLOSED, HALF_OPEN, OPEN = BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN


class BreakerMachine(RuleBasedStateMachine):
    """Calls overlap in any way, end in any way, and time passes between them."""

    permits: Bundle[Permit] = Bundle("permits")

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.changes: list[tuple[BreakerState, BreakerState]] = []
        self.breaker = Breaker(POLICY, self.clock, self._note)
        self.outcomes: list[tuple[float, bool]] = []  # since the last change: when, and whether it failed
        self.opened_at = 0.0
        self.generation = 0
        self.probes_out = 0

    def _note(self, before: BreakerState, after: BreakerState) -> None:
        self.changes.append((before, after))
        self.outcomes.clear()
        self.generation += 1
        self.probes_out = 0
        if after is OPEN:
            self.opened_at = self.clock.now

    @rule(target=permits)
    def acquire(self) -> Permit | MultipleResults[Permit]:
        due = self.breaker.state is OPEN and self.clock.now - self.opened_at >= POLICY.open_s
        allowed = self.breaker.state is CLOSED or due or (self.breaker.state is HALF_OPEN and not self.probes_out)
        permit = self.breaker.acquire()
        assert (permit is not None) == allowed
        if permit is None:
            return multiple()
        assert permit.probe == (self.breaker.state is HALF_OPEN)
        self.probes_out += permit.probe
        return permit

    @rule(permit=consumes(permits), verdict=st.sampled_from(CallOutcome))
    def record(self, permit: Permit, verdict: CallOutcome) -> None:
        before, changes = self.breaker.state, len(self.changes)
        current = permit.generation == self.generation
        if current:
            self.probes_out -= permit.probe
        if current and not permit.probe and verdict is not CallOutcome.NEUTRAL:
            self.outcomes.append((self.clock.now, verdict is CallOutcome.FAILURE))
        opens = self._should_open()
        self.breaker.record(permit, verdict)
        if not current:
            assert len(self.changes) == changes, "a call from before the change has counted"
        elif permit.probe:
            expected = {CallOutcome.SUCCESS: CLOSED, CallOutcome.FAILURE: OPEN, CallOutcome.NEUTRAL: HALF_OPEN}[verdict]
            assert self.breaker.state is expected
        elif before is CLOSED:
            failed = verdict is CallOutcome.FAILURE
            assert (self.breaker.state is OPEN) == (failed and opens)

    def _should_open(self) -> bool:
        last = [failed for _, failed in self.outcomes][-POLICY.consecutive_failures :]
        if len(last) == POLICY.consecutive_failures and all(last):
            return True
        width = POLICY.window_s / POLICY.buckets
        oldest = int(self.clock.now / width) - POLICY.buckets + 1
        recent = [failed for when, failed in self.outcomes if int(when / width) >= oldest]
        return len(recent) >= POLICY.minimum_volume and sum(recent) >= POLICY.failure_ratio * len(recent)

    @rule()
    def allow_probe(self) -> None:
        before = self.breaker.state
        self.breaker.allow_probe()
        assert self.breaker.state is (HALF_OPEN if before is OPEN else before)

    @rule(seconds=st.sampled_from([0.1, 0.9, 1.0, 2.0, 9.5, 30.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def changes_chain(self) -> None:
        assert all(first[1] is second[0] for first, second in pairwise(self.changes))
        legal = {(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, OPEN), (HALF_OPEN, CLOSED)}
        assert set(self.changes) <= legal

    @invariant()
    def one_probe_at_most(self) -> None:
        assert self.probes_out <= 1


BreakerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60)
TestBreaker = pytest.mark.timeout(60)(BreakerMachine.TestCase)


def _breaker(clock: FakeClock, policy: BreakerPolicy = BreakerPolicy()) -> Breaker:  # noqa: B008  # frozen
    return Breaker(policy, clock, lambda _, __: None)


def _call(breaker: Breaker, verdict: CallOutcome) -> bool:
    permit = breaker.acquire()
    if permit is not None:
        breaker.record(permit, verdict)
    return permit is not None


def test_opens_after_five_failures_in_a_row() -> None:
    breaker = _breaker(FakeClock())
    assert [_call(breaker, CallOutcome.FAILURE) for _ in range(6)] == [True] * 5 + [False]


def test_neutral_outcomes_neither_break_nor_mend_a_row() -> None:
    breaker = _breaker(FakeClock())
    for _ in range(4):
        _call(breaker, CallOutcome.FAILURE)
    for _ in range(100):
        _call(breaker, CallOutcome.NEUTRAL)
    assert breaker.state is CLOSED
    _call(breaker, CallOutcome.FAILURE)
    assert breaker.state is OPEN


def test_opens_on_a_failure_ratio() -> None:
    """Alternating outcomes never make a row of five, but half of twenty calls failed."""
    breaker = _breaker(FakeClock())
    for _ in range(10):
        _call(breaker, CallOutcome.SUCCESS)
        _call(breaker, CallOutcome.FAILURE)
    assert breaker.state is OPEN


def test_old_failures_are_forgotten() -> None:
    clock = FakeClock()
    breaker = _breaker(clock)
    for _ in range(60):
        _call(breaker, CallOutcome.SUCCESS)
        _call(breaker, CallOutcome.FAILURE)
        clock.now += 1.1
    assert breaker.state is CLOSED


def test_a_single_probe_closes_it() -> None:
    clock = FakeClock()
    breaker = _breaker(clock)
    for _ in range(5):
        _call(breaker, CallOutcome.FAILURE)
    clock.now += 2.0
    probe = breaker.acquire()
    assert probe is not None
    assert probe.probe
    assert [breaker.acquire() for _ in range(10)] == [None] * 10
    breaker.record(probe, CallOutcome.SUCCESS)
    assert breaker.state is CLOSED
    assert breaker.acquire() is not None
