"""Intervals by the bootstrap: how far a mean over viewers may be chance (Efron, 1979)."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

RESAMPLES: Final = 1000
LEVEL: Final = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A mean and its interval at the level of 95 %."""

    mean: float
    low: float
    high: float


def interval(values: NDArray[np.floating], *, seed: int, resamples: int = RESAMPLES) -> Interval:
    """Return the mean of one value a viewer, (n,) with n at least 1, and its percentile interval."""
    rng = np.random.default_rng(seed)
    means = np.array([values[rng.integers(len(values), size=len(values))].mean() for _ in range(resamples)])
    low, high = np.quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(mean=float(values.mean()), low=float(low), high=float(high))
