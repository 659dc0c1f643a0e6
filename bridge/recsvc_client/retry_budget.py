"""Limits retries by a budget, so that they never multiply an outage."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetPolicy:
    """Size and income of a retry budget."""

    ratio: float = 0.15
    """Retries earned by each call."""
    reserve: float = 10.0
    """Retries in hand at the start, and at most."""


class RetryBudget:
    """A token bucket: each call deposits a fraction of a retry, each retry withdraws a whole one.

    Over any stretch of n calls there are at most `reserve + ratio * n` retries. After Finagle's RetryBudget.
    """

    def __init__(self, policy: BudgetPolicy) -> None:
        self._policy = policy
        self._tokens = policy.reserve

    def deposit(self) -> None:
        """Add the deposit of one call."""
        self._tokens = min(self._policy.reserve, self._tokens + self._policy.ratio)

    def withdraw(self) -> bool:
        """Pay for one retry; return False if the budget is too small."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
