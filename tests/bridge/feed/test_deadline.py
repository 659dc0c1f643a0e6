"""How long LightFM may take."""

from hypothesis import given
from hypothesis import strategies as st

from bridge.feed.page_maker import FALLBACK_RESERVE_S, lightfm_deadline

SECONDS = st.floats(0, 10)


@given(now=SECONDS, budget=SECONDS, caller=st.none() | SECONDS)
def test_nearer_deadline_counts(now: float, budget: float, caller: float | None) -> None:
    """LightFM gets what the nearer deadline leaves beside the reserve."""
    deadline = lightfm_deadline(now, budget_s=budget, caller_s=caller)
    due = budget if caller is None else min(budget, caller)
    assert abs(deadline - now - (due - FALLBACK_RESERVE_S)) < 1e-9
