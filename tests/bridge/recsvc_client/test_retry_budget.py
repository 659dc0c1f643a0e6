"""The retry budget."""

from hypothesis import given
from hypothesis import strategies as st

from bridge.recsvc_client.retry_budget import BudgetPolicy, RetryBudget


@given(st.lists(st.booleans(), max_size=400), st.floats(0, 1), st.floats(0, 20))
def test_retries_are_bounded_by_calls(calls: list[bool], ratio: float, reserve: float) -> None:
    """Whatever happens, n calls are followed by at most reserve + ratio * n retries."""
    budget = RetryBudget(BudgetPolicy(ratio=ratio, reserve=reserve))
    retries = 0
    for number, fails in enumerate(calls, start=1):
        budget.deposit()
        retries += sum(budget.withdraw() for _ in range(2)) if fails else 0
        assert retries <= reserve + ratio * number + 1e-9


def test_calm_restores_the_reserve_and_no_more() -> None:
    budget = RetryBudget(BudgetPolicy(ratio=0.5, reserve=2))
    assert [budget.withdraw() for _ in range(3)] == [True, True, False]
    for _ in range(100):
        budget.deposit()
    assert [budget.withdraw() for _ in range(3)] == [True, True, False]
