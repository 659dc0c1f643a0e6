"""Evaluates quality on a held-out day: ranks pages as served, and judges them by users' later likes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelstore.artefact import RowLists
from retrain.data.prepare import Pairs
from retrain.evaluation.confidence import interval
from retrain.evaluation.metrics import Quality, hits, ndcg, quality
from retrain.evaluation.page_ranking import Scores, best_pages, first_unseen
from retrain.evaluation.segments import Segment, slices

PAGE_SIZE: Final = 20
POPULARITY_FLOOR: Final = 1.0
"""Added to popularity before its logarithm is taken."""
POPULARITY_WEIGHTS: Final = (0.0, 0.125, 0.25, 0.375, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0)
"""Weights of the popularity prior to choose from."""
CHOICE_USERS: Final = 2500
"""Users, at most, that the weight is chosen for."""
CHOICE_REACH: Final = 2
"""Weights on either side that a weight is compared with: with one, chance would often end the search too soon."""
MIN_USERS_TO_MOVE: Final = 2000
"""Users below which a night keeps the weight: with a hundred it drifts, with thousands it stays near the best."""
MIN_USERS_TO_CHOOSE: Final = 100
"""The same for a full fit: there are few of them, so that nothing drifts."""
DEFAULT_POPULARITY_WEIGHT: Final = 0.7
"""Where no run before this one has left a weight."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOutDay:
    """The targets of a day, and the knowledge before it."""

    users: NDArray[np.int64]
    """(n,) rows of the users who liked a video on the day that they had not been shown before."""
    relevant: RowLists
    """Those videos, n lists."""
    seen: RowLists
    """What each user of the model had been shown before the day, U lists."""
    popularity: NDArray[np.float32]
    """(V,) as of the day's beginning."""

    @classmethod
    def build(
        cls, targets: Pairs, seen: RowLists, popularity: NDArray[np.float32], *, most_users: int, seed: int
    ) -> "HeldOutDay":
        """Return the day of these targets, of a random sample of users where there are more than `most_users`."""
        relevant = targets.lists(len(seen))
        users = np.flatnonzero(relevant.lengths())
        if len(users) > most_users:
            users = np.sort(np.random.default_rng(seed).choice(users, most_users, replace=False))
        lengths = relevant.lengths()[users]
        lists = [relevant[user] for user in users.tolist()]
        chosen = RowLists(
            np.concatenate(([0], np.cumsum(lengths))), np.concatenate(lists) if lists else np.empty(0, np.int32)
        )
        return cls(users=users, relevant=chosen, seen=seen, popularity=popularity)

    @classmethod
    def after(cls, seen: RowLists, popularity: NDArray[np.float32]) -> "HeldOutDay":
        """Return a day without targets, for all users who were shown something before."""
        users = np.flatnonzero(seen.lengths())
        relevant = RowLists(np.zeros(len(users) + 1, np.int64), np.empty(0, np.int32))
        return cls(users=users, relevant=relevant, seen=seen, popularity=popularity)

    def sample(self, count: int, *, seed: int) -> "HeldOutDay":
        """Return the day with a random sample of its users; with all if there are no more."""
        if len(self.users) <= count:
            return self
        places = np.sort(np.random.default_rng(seed).choice(len(self.users), count, replace=False))
        lists = [self.relevant[place] for place in places.tolist()]
        offsets = np.concatenate(([0], np.cumsum([len(one) for one in lists]))).astype(np.int64)
        return replace(self, users=self.users[places], relevant=RowLists(offsets, np.concatenate(lists)))

    def pages(self, scores: Scores, weights: Sequence[float] = (0.0,), *, threads: int = 1) -> NDArray[np.int64]:
        """Return the page of each user under each weight of the popularity prior.

        Returns:
            (weights, n, 20) rows of videos not shown before; -1 where there are no more.
        """
        return best_pages(scores, self.users, self.seen, self.prior(1.0), weights, size=PAGE_SIZE, threads=threads)

    def popular_pages(self) -> NDArray[np.int64]:
        """Return the page of each user by popularity alone, (n, 20), as `pages` does."""
        return first_unseen(self.users, self.seen, np.argsort(-self.popularity, kind="stable"), size=PAGE_SIZE)

    def judge(self, scores: Scores, weights: Sequence[float] = (0.0,), *, threads: int = 1) -> list[Quality]:
        """Return the quality of the pages under each weight."""
        pages = self.pages(scores, weights, threads=threads)
        return [quality(one, self.relevant, self.popularity) for one in pages]

    def prior(self, weight: float) -> NDArray[np.float32]:
        """Return the popularity part of the ranking score, (V,)."""
        prior: NDArray[np.float32] = np.float32(weight) * np.log(self.popularity + np.float32(POPULARITY_FLOOR))
        return prior


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Quality of each way to rank, on the same users."""

    lightfm: Quality
    lightfm_prior: Quality
    """With the popularity prior, of the weight that is judged."""
    weight: float
    """That weight."""
    popularity: Quality
    """The baseline: decayed popularity alone."""
    lightfm_prior_gains: NDArray[np.float64]
    """(n,) NDCG of each user's page."""
    popularity_gains: NDArray[np.float64]
    """The same of the baseline."""
    users: int
    next_weight: float
    """Of the popularity prior: the one uphill from the judged weight that would have ranked the day best for a sample
    of its users; the judged one where users are too few to tell."""
    with_next_weight: Quality
    slices: tuple[Segment, ...] = ()
    """Of what is judged: all users, and parts of them and of the videos."""

    def metrics(self) -> dict[str, float]:
        """Return the quality by name, for the manifest."""
        rows = {"lightfm": self.lightfm, "lightfm_prior": self.lightfm_prior, "popularity": self.popularity}
        metrics = {"evaluation.users": float(self.users)}
        for name, row in rows.items():
            metrics |= {
                f"{name}.recall@{PAGE_SIZE}": row.recall,
                f"{name}.ndcg@{PAGE_SIZE}": row.ndcg,
                f"{name}.coverage@{PAGE_SIZE}": float(row.coverage),
                f"{name}.popularity_share@{PAGE_SIZE}": row.popularity_share,
                f"{name}.novelty@{PAGE_SIZE}": row.novelty,
            }
        for name, gains in {"lightfm_prior": self.lightfm_prior_gains, "popularity": self.popularity_gains}.items():
            bounds = interval(gains, seed=0)
            metrics |= {f"{name}.ndcg@{PAGE_SIZE}.low": bounds.low, f"{name}.ndcg@{PAGE_SIZE}.high": bounds.high}
        for part in self.slices:
            metrics |= _part_metrics(part)
        return metrics


def choose_weight(scores: Scores, day: HeldOutDay, start: float, *, threads: int = 1) -> float:
    """Return the popularity weight found uphill from a start, by NDCG for a sample of a day's users.

    NDCG rises with the weight up to the best one and falls from there, but for chance.
    """
    sample, ndcgs, best = day.sample(CHOICE_USERS, seed=0), dict[float, float](), start
    while True:
        if new := [weight for weight in neighbours(best) if weight not in ndcgs]:
            ndcgs |= {one: its.ndcg for one, its in zip(new, sample.judge(scores, new, threads=threads), strict=True)}
        better = max(neighbours(best), key=lambda one: (ndcgs[one], one == best))
        if better == best:
            return best
        best = better


def evaluate(scores: Scores, day: HeldOutDay, weight: float, *, fewest: int, threads: int = 1) -> Evaluation:
    """Return the quality of LightFM, of LightFM with the prior, and of popularity alone on a day.

    Args:
        scores: LightFM's.
        day: The day.
        weight: Of the prior, chosen before the day.
        fewest: Users below which none other is looked for.
        threads: Threads to use.
    """
    following = choose_weight(scores, day, weight, threads=threads) if len(day.users) >= fewest else weight
    weights = list(dict.fromkeys((0.0, weight, following)))
    pages = dict(zip(weights, day.pages(scores, weights, threads=threads), strict=True))
    found = {one: quality(its, day.relevant, day.popularity) for one, its in pages.items()}
    popular = day.popular_pages()
    gains, popular_gains = (ndcg(hits(one, day.relevant), day.relevant.lengths()) for one in (pages[weight], popular))
    return Evaluation(
        lightfm=found[0.0],
        lightfm_prior=found[weight],
        weight=weight,
        popularity=quality(popular, day.relevant, day.popularity),
        lightfm_prior_gains=gains,
        popularity_gains=popular_gains,
        users=len(day.users),
        next_weight=following,
        with_next_weight=found[following],
        slices=tuple(slices(pages[weight], day.users, day.relevant, day.seen, seed=0)),
    )


def neighbours(weight: float, weights: Sequence[float] = POPULARITY_WEIGHTS) -> list[float]:
    """Return a weight with the next smaller and the next larger of these, if they exist."""
    lower, higher = [one for one in weights if one < weight], [one for one in weights if one > weight]
    return [*lower[-CHOICE_REACH:], weight, *higher[:CHOICE_REACH]]


def _part_metrics(part: Segment) -> dict[str, float]:
    metrics = {f"slice.{part.name}.users": float(part.users)}
    for name, found in {"recall": part.recall, "ndcg": part.ndcg}.items():
        key = f"slice.{part.name}.{name}@{PAGE_SIZE}"
        metrics |= {key: found.mean, f"{key}.low": found.low, f"{key}.high": found.high}
    return metrics
