"""Deadlines as values on a monotonic clock."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypeAlias

Clock: TypeAlias = Callable[[], float]
"""Returns monotonic seconds."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """An instant by which something must have ended.

    Attributes:
        instant: Seconds on the clock.
        clock: The clock that the instant belongs to.
    """

    instant: float
    clock: Clock

    @classmethod
    def after(cls, seconds: float, clock: Clock) -> Self:
        """Return the deadline that many seconds from now."""
        return cls(clock() + seconds, clock)

    def remaining(self) -> float:
        """Return the seconds left, 0 once it has passed."""
        return max(0.0, self.instant - self.clock())


def lightfm_deadline(clock: Clock, *, budget_s: float, caller_s: float | None, reserve_s: float) -> Deadline:
    """Return how long LightFM may take.

    Args:
        clock: Monotonic seconds.
        budget_s: Seconds in which the page is due, retries included.
        caller_s: Seconds until the caller's own deadline; None when the caller set none.
        reserve_s: Seconds of these that are kept for noticing that LightFM is late and for the trending page.
    """
    due = budget_s if caller_s is None else min(budget_s, caller_s)
    return Deadline.after(due - reserve_s, clock)
