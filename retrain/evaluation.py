"""Quality on a held-out day: pages as they would have been served, judged by what viewers then liked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recsvc.artefact import Csr
from recsvc.ranking import top_rows
from retrain.metrics import Quality, quality
from retrain.preparation import Pairs
from retrain.representations import Representations

PAGE_SIZE: Final = 20
POPULARITY_FLOOR: Final = 1.0
"""Added to popularity before its logarithm is taken."""
POPULARITY_WEIGHTS: Final = (0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Weights of the popularity prior that validation chooses from."""
DEFAULT_POPULARITY_WEIGHT: Final = 0.25
"""Where there is no day to choose on."""

_BLOCK_SCORES: Final = 1 << 24
"""Scores held at once."""

Scores: TypeAlias = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Returns the scores of all videos for some viewers, (n, V), an array that the caller may change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOutDay:
    """What happened on a day, and what was known before it."""

    users: NDArray[np.int64]
    """(n,) rows of the viewers who liked a video on the day that they had not been shown before."""
    relevant: Csr
    """Those videos, n lists."""
    seen: Csr
    """What each viewer of the model had been shown before the day, U lists."""
    popularity: NDArray[np.float32]
    """(V,) as of the day's beginning."""

    @classmethod
    def build(
        cls, targets: Pairs, seen: Csr, popularity: NDArray[np.float32], *, most_users: int, seed: int
    ) -> "HeldOutDay":
        """Return the day of these targets, of a random sample of viewers where there are more than `most_users`."""
        relevant = targets.lists(len(seen))
        users = np.flatnonzero(relevant.lengths())
        if len(users) > most_users:
            users = np.sort(np.random.default_rng(seed).choice(users, most_users, replace=False))
        lengths = relevant.lengths()[users]
        lists = [relevant[user] for user in users.tolist()]
        chosen = Csr(
            np.concatenate(([0], np.cumsum(lengths))), np.concatenate(lists) if lists else np.empty(0, np.int32)
        )
        return cls(users=users, relevant=chosen, seen=seen, popularity=popularity)

    def pages(self, scores: Scores) -> NDArray[np.int64]:
        """Return the page of each viewer, (n, 20) rows of videos not shown before; -1 where there are no more."""
        pages = np.full((len(self.users), PAGE_SIZE), -1, np.int64)
        block = max(1, _BLOCK_SCORES // max(1, len(self.popularity)))
        for begin in range(0, len(self.users), block):
            users = self.users[begin : begin + block]
            for place, (user, row) in enumerate(zip(users, scores(users), strict=True), begin):
                row[self.seen[user]] = -np.inf
                best = top_rows(row, PAGE_SIZE)
                pages[place, : len(best)] = best
        return pages

    def judge(self, scores: Scores) -> Quality:
        """Return the quality of the pages that these scores give."""
        return quality(self.pages(scores), self.relevant, self.popularity)

    def prior(self, weight: float) -> NDArray[np.float32]:
        """Return the popularity part of the ranking score, (V,)."""
        prior: NDArray[np.float32] = np.float32(weight) * np.log(self.popularity + np.float32(POPULARITY_FLOOR))
        return prior


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What is ranked how well, on the same viewers."""

    lightfm: Quality
    lightfm_prior: Quality
    """With the popularity prior: what is served."""
    popularity: Quality
    """The baseline: decayed popularity alone."""
    viewers: int

    def metrics(self) -> dict[str, float]:
        """Return the numbers by name, for the manifest."""
        rows = {"lightfm": self.lightfm, "lightfm_prior": self.lightfm_prior, "popularity": self.popularity}
        metrics = {"evaluation.viewers": float(self.viewers)}
        for name, row in rows.items():
            metrics |= {
                f"{name}.recall@{PAGE_SIZE}": row.recall,
                f"{name}.ndcg@{PAGE_SIZE}": row.ndcg,
                f"{name}.coverage@{PAGE_SIZE}": float(row.coverage),
                f"{name}.popularity_share@{PAGE_SIZE}": row.popularity_share,
            }
        return metrics


def with_prior(representations: Representations, prior: NDArray[np.float32]) -> Scores:
    """Return the scores that are served: LightFM's and the popularity prior's sum."""

    def scores(users: NDArray[np.int64]) -> NDArray[np.float32]:
        sums = representations.scores(users)
        sums += prior
        return sums

    return scores


def choose_weight(
    representations: Representations, day: HeldOutDay, weights: Sequence[float] = POPULARITY_WEIGHTS
) -> float:
    """Return the weight of the popularity prior that gives the best NDCG on a day."""
    return max(weights, key=lambda weight: day.judge(with_prior(representations, day.prior(weight))).ndcg)


def evaluate(representations: Representations, day: HeldOutDay, weight: float) -> Evaluation:
    """Return how LightFM, LightFM with the prior, and popularity alone rank on a day."""
    return Evaluation(
        lightfm=day.judge(representations.scores),
        lightfm_prior=day.judge(with_prior(representations, day.prior(weight))),
        popularity=day.judge(lambda users: np.tile(day.popularity, (len(users), 1))),
        viewers=len(day.users),
    )
