"""Measures the similarity of videos: the cosine of their factors."""

import numpy as np
from numpy.typing import NDArray

from recsvc.ranking.exact import Exclusions, Ranked, top_rows


class Neighbours:
    """Finds the most similar videos of one model. A video without a representation is similar to none.

    Args:
        factors: (V, d) representations of the videos.
        lengths: (V,) theirs.
    """

    def __init__(self, factors: NDArray[np.float32], lengths: NDArray[np.float32]) -> None:
        self._factors = factors
        self._inverse = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)

    def directions(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the factors of these rows at length 1, or 0 where there are none, (len(rows), d)."""
        unit: NDArray[np.float32] = self._factors[rows] * self._inverse[rows, None]
        return unit

    def nearest(self, row: int, count: int, barred: Exclusions) -> Ranked:
        """Return the videos most like one, with their cosines, never itself; equal ones in order of their rows."""
        (direction,) = self.directions(np.array([row]))
        if not direction.any():
            return Ranked(np.empty(0, np.int64), np.empty(0, np.float32))
        cosines = self._factors @ direction
        cosines *= self._inverse
        cosines[row] = -np.inf
        np.putmask(cosines, self._inverse == 0, -np.inf)
        barred.strike(cosines)
        best = top_rows(cosines, count)
        return Ranked(best, np.clip(cosines[best], -1, 1))
