"""Diversifies a page: maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998) on the videos' factors."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

POOL: Final = 5
"""Best videos that a page is chosen from, as a multiple of its size."""
MAX_POOL: Final = 2_000


def pool_size(count: int) -> int:
    """Return how many of the best videos to choose a page of `count` from; more than `count`."""
    return max(count + 1, min(POOL * count, MAX_POOL))


def diversify(
    scores: NDArray[np.float32], directions: NDArray[np.float32], count: int, diversity: float
) -> NDArray[np.int64]:
    """Return the places of the chosen videos, the best one first; each next one is good and unlike those before it.

    Args:
        scores: (n,) of the videos to choose from, best first.
        directions: (n, d) their factors at length 1.
        count: Videos to choose.
        diversity: Weight of unlikeness, 0 to 1; the rest is that of the score, scaled to 0..1 over the videos.
    """
    if not len(scores):
        return np.empty(0, np.int64)
    worth = (1 - diversity) * _scaled(scores)
    nearest = np.full(len(scores), -1, np.float32)
    chosen: list[int] = []
    for _ in range(min(count, len(scores))):
        # Before anything is chosen, all are as unlike it as can be.
        best = int(np.argmax(worth - diversity * nearest))
        chosen.append(best)
        worth[best] = -np.inf
        np.maximum(nearest, directions @ directions[best], out=nearest)
    return np.array(chosen, np.int64)


def _scaled(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = scores.astype(np.float64)
    span = wide.max() - wide.min()
    scaled: NDArray[np.float64] = (wide - wide.min()) / span if span > 0 else np.ones(len(wide))
    return scaled
