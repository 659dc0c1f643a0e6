"""A retry budget, so that retries never multiply an outage."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetPolicy:
    """How many retries are paid for."""

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
        """Earn what one call is worth."""
        self._tokens = min(self._policy.reserve, self._tokens + self._policy.ratio)

    def withdraw(self) -> bool:
        """Pay for one retry; False when there is too little."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
