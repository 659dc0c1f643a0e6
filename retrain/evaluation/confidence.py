"""Computes confidence intervals of a mean over users by the bootstrap (Efron, 1979)."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

RESAMPLES: Final = 1000
AT_ONCE: Final = 10
"""Resamples that are drawn in one call: hardly a cache full."""
LEVEL: Final = 0.95
MAX_VALUES: Final = 2000
"""Of more, the means of so many random groups are resampled: their mean varies as much, in a tenth of the time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A mean and its interval at the level of 95 %."""

    mean: float
    low: float
    high: float


def interval(values: NDArray[np.floating], *, seed: int, resamples: int = RESAMPLES) -> Interval:
    """Return the mean of one value a user, (n,) with n at least 1, and its percentile interval."""
    rng = np.random.default_rng(seed)
    mean = float(values.mean())
    if len(values) > MAX_VALUES:
        values = _group_means(values, rng)
    sizes = [(min(AT_ONCE, resamples - begin), len(values)) for begin in range(0, resamples, AT_ONCE)]
    means = np.concatenate([values[rng.integers(len(values), size=size)].mean(axis=1) for size in sizes])
    low, high = np.quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(mean=mean, low=float(low), high=float(high))


def _group_means(values: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.float64]:
    bounds = np.linspace(0, len(values), MAX_VALUES, endpoint=False, dtype=np.int64)
    sums = np.add.reduceat(rng.permutation(values).astype(np.float64), bounds)
    means: NDArray[np.float64] = sums / np.diff(bounds, append=len(values))
    return means
