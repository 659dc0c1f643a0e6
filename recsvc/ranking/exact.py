"""Finds the best videos for a user by exact scan.

Order is by score, best first, and by row where scores are equal, so that the same question always has one answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from recsvc.domain.user import User

BLOCKS: Final = 8
"""A scan is cut into at least this many blocks for each video asked for."""


@dataclass(slots=True, eq=False)  # frozen, it would take three times as long to make
class Ranked:
    """Videos, best first."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]

    def head(self, count: int) -> "Ranked":
        """Return the first ones."""
        return Ranked(self.rows[:count], self.scores[:count])

    def __len__(self) -> int:
        return len(self.rows)


class Exclusions(NamedTuple):
    """Videos that must not be returned, whatever their score."""

    rows: tuple[NDArray[np.integer], ...] = ()
    """Lists of rows, in any order and with repeats."""
    mask: NDArray[np.bool_] | None = None
    """(V,) True where barred."""

    def strike(self, scores: NDArray[np.float32]) -> None:
        """Give the barred videos a score that is never returned, in place."""
        for rows in self.rows:
            scores[rows] = -np.inf
        if self.mask is not None:
            np.putmask(scores, self.mask, -np.inf)


NOTHING_BARRED: Final = Exclusions()


@dataclass(frozen=True, slots=True)
class RankingQuery:
    """A user's query for videos."""

    user: User
    count: int
    """Videos wanted, at least 1."""
    barred: Exclusions = NOTHING_BARRED


class Ranker(Protocol):
    """Finds the best videos of one model. A user's score for a video is the same number from every method."""

    recall: float
    """Share of a user's best 20 videos that are found, as measured against a scan."""

    def top(self, user: User, count: int, barred: Exclusions) -> Ranked:
        """Return the best `count` videos that are not barred; fewer only when there are no more."""

    def top_many(self, wishes: Sequence[RankingQuery]) -> list[Ranked]:
        """Return the result of `top` for each query, with one product for all."""

    def scores(self, user: User) -> NDArray[np.float32]:
        """Return the score of every video without the user's bias, (V,) float32, exact but for rounding."""

    def scores_of(self, user: User, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the scores of some videos, (len(rows),) float32."""

    def with_static(self, static: NDArray[np.float32]) -> "Ranker":
        """Return a ranker of the same videos with another static part of their scores."""


class ExactRanker:
    """Scores every video for every call.

    The full scan only finds candidates: what it rounds depends on how many users share the product. Their final
    scores are summed video by video.

    Args:
        factors: (V, d) representations of the videos.
        static: (V,) the part of the score that is the same for all users.
        longest: Largest norm of a video's factors; computed when not given.
    """

    def __init__(
        self, factors: NDArray[np.float32], static: NDArray[np.float32], *, longest: float | None = None
    ) -> None:
        self.factors = factors
        self.static = static
        self.recall = 1.0
        self._longest = (
            float(np.sqrt(np.einsum("ij,ij->i", factors, factors).max(initial=0))) if longest is None else longest
        )
        self._highest = float(np.abs(static).max(initial=0))

    def with_static(self, static: NDArray[np.float32]) -> "ExactRanker":
        """Return a ranker of the same videos with another static part of their scores."""
        return ExactRanker(self.factors, static, longest=self._longest)

    def scores(self, user: User) -> NDArray[np.float32]:
        """Return the score of every video without the user's bias, (V,) float32, exact but for rounding."""
        if user.vector is None:
            return self.static.copy()
        scores: NDArray[np.float32] = self.factors @ user.vector
        scores += self.static
        return scores

    def scores_of(self, user: User, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the scores of some videos, (len(rows),) float32."""
        scores: NDArray[np.float32] = self._unbiased(user, rows)
        scores += np.float32(user.bias)
        return scores

    def top(self, user: User, count: int, barred: Exclusions) -> Ranked:
        """Return the best `count` videos that are not barred; fewer only when there are no more."""
        return self._best(self.scores(user), RankingQuery(user, count, barred))

    def top_many(self, wishes: Sequence[RankingQuery]) -> list[Ranked]:
        """Return the result of `top` for each query, with one product for all."""
        if not wishes:
            return []
        zeros = np.zeros(self.factors.shape[1], np.float32)
        vectors = [zeros if wish.user.vector is None else wish.user.vector for wish in wishes]
        scores = np.stack(vectors) @ self.factors.T
        scores += self.static
        return [self._best(row, wish) for row, wish in zip(scores, wishes, strict=True)]

    def _best(self, scores: NDArray[np.float32], wish: RankingQuery) -> Ranked:
        """Return the answer from approximate scores, which are overwritten."""
        wish.barred.strike(scores)
        candidates = candidate_rows(scores, wish.count, self.slack(wish.user))
        return self.best_of(wish.user, candidates, wish.count)

    def best_of(self, user: User, rows: NDArray[np.int64], count: int) -> Ranked:
        """Return the best `count` of these rows, which ascend."""
        exact = self._unbiased(user, rows)
        order = np.argsort(-exact, kind="stable")[:count]
        return Ranked(rows[order], exact[order] + np.float32(user.bias))

    def _unbiased(self, user: User, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = self.static[rows]
        if user.vector is not None:
            scores += np.einsum("ij,j->i", self.factors[rows], user.vector)
        return scores

    def slack(self, user: User) -> float:
        """Return twice the bound on the difference between two ways of summing a score (Higham 2002, section 3.1)."""
        if user.vector is None:
            return 0.0
        product = self._longest * float(np.sqrt(user.vector @ user.vector))
        return 4 * (len(user.vector) + 2) * _ROUNDING * (product + self._highest)


def candidate_rows(scores: NDArray[np.float32], count: int, slack: float = 0.0) -> NDArray[np.int64]:
    """Return the rows, ascending, of all finite scores that are at most `slack` below the count-th best, and few more.

    The count-th best of the maxima of disjoint blocks cannot exceed the count-th best score. So it bounds from below
    what can be in the answer; cheaper than a partition of all scores.
    """
    width = len(scores) // (count * BLOCKS)
    bound = _LOWEST
    if width > 1:
        blocks = len(scores) // width
        # Strided blocks: the maxima are taken lane by lane, which vectorises.
        maxima = scores[: blocks * width].reshape(width, blocks).max(axis=0)
        maxima.partition(blocks - count)
        bound = max(np.float32(maxima[blocks - count] - slack), _LOWEST)
    rows: NDArray[np.int64] = np.flatnonzero(scores >= bound)
    return rows


def top_rows(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the rows of the best `count` finite scores, best first, lower rows first among equals."""
    rows = candidate_rows(scores, count)
    order = np.argsort(-scores[rows], kind="stable")[:count]
    best: NDArray[np.int64] = rows[order]
    return best


_ROUNDING: Final = float(np.finfo(np.float32).eps) / 2
_LOWEST: Final = np.finfo(np.float32).min
