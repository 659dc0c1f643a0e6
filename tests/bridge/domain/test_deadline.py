"""Deadlines."""

from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.deadline import Deadline, lightfm_deadline
from tests.bridge.support.clock import FakeClock

SECONDS = st.floats(0, 10)


@given(SECONDS, SECONDS)
def test_remaining_falls_to_zero_and_stays(granted: float, passed: float) -> None:
    clock = FakeClock()
    deadline = Deadline.after(granted, clock)
    clock.now += passed
    assert abs(deadline.remaining() - max(0.0, granted - passed)) < 1e-9


@given(budget=SECONDS, caller=st.none() | SECONDS, reserve=st.floats(0, 0.1))
def test_nearer_deadline_counts(budget: float, caller: float | None, reserve: float) -> None:
    """LightFM gets what the nearer deadline leaves beside the reserve."""
    remaining = lightfm_deadline(FakeClock(), budget_s=budget, caller_s=caller, reserve_s=reserve).remaining()
    due = budget if caller is None else min(budget, caller)
    assert abs(remaining - max(0.0, due - reserve)) < 1e-9
