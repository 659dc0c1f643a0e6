"""The best videos for a viewer, by exact scan.

Order is by score, best first, and by row where scores are equal, so that the same question always has one answer.
"""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from recsvc.viewers import Viewer

BLOCKS: Final = 8
"""A scan is cut into at least this many blocks for each video asked for."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """Videos, best first."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]

    def head(self, count: int) -> "Ranked":
        """Return the first ones."""
        return Ranked(self.rows[:count], self.scores[:count])

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Barred:
    """Videos that must not be returned, whatever their score."""

    rows: tuple[NDArray[np.integer], ...] = ()
    """Lists of rows, in any order and with repeats."""
    mask: NDArray[np.bool_] | None = None
    """(V,) True where barred."""


class Ranker(Protocol):
    """Finds the best videos of one model."""

    def top(self, viewer: Viewer, count: int, barred: Barred) -> Ranked:
        """Return the best `count` videos that are not barred; fewer only when there are no more."""

    def scores(self, viewer: Viewer) -> NDArray[np.float32]:
        """Return the score of every video, (V,) float32."""


class ExactRanker:
    """Scores every video for every call.

    Args:
        factors: (V, d) representations of the videos.
        static: (V,) the part of the score that is the same for all viewers.
    """

    def __init__(self, factors: NDArray[np.float32], static: NDArray[np.float32]) -> None:
        self._factors = factors
        self._static = static

    def scores(self, viewer: Viewer) -> NDArray[np.float32]:
        """Return the score of every video, (V,) float32."""
        if viewer.vector is None:
            return self._static.copy()
        scores: NDArray[np.float32] = self._factors @ viewer.vector
        scores += self._static
        return scores

    def top(self, viewer: Viewer, count: int, barred: Barred) -> Ranked:
        """Return the best `count` videos that are not barred; fewer only when there are no more."""
        scores = self.scores(viewer)
        for rows in barred.rows:
            scores[rows] = -np.inf
        if barred.mask is not None:
            np.putmask(scores, barred.mask, -np.inf)
        best = top_rows(scores, count)
        chosen = scores[best]
        if viewer.bias:
            chosen += viewer.bias
        return Ranked(best, chosen)


def top_rows(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the rows of the best `count` finite scores, best first, lower rows first among equals.

    The count-th best of the maxima of disjoint blocks cannot exceed the count-th best score. So it bounds from below
    what can be in the answer, and only the few scores that reach it are sorted; exact, and cheaper than a partition
    of all scores.
    """
    width = len(scores) // (count * BLOCKS)
    if width > 1:
        blocks = len(scores) // width
        # Strided blocks: the maxima are taken lane by lane, which vectorises.
        maxima = scores[: blocks * width].reshape(width, blocks).max(axis=0)
        maxima.partition(blocks - count)
        bound = max(maxima[blocks - count], _LOWEST)
    else:
        bound = _LOWEST
    rows = np.flatnonzero(scores >= bound)
    order = np.argsort(-scores[rows], kind="stable")[:count]
    best: NDArray[np.int64] = rows[order]
    return best


_LOWEST: Final = np.finfo(np.float32).min
