"""Checks after training whether the candidate may replace the live model.

The candidate is judged by its fit on everything before the last day, the live model by its pages for the same users
of that day, and decayed popularity likewise. Differences are paired by user, so that users who are hard to please
weigh on neither side.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from retrain.embeddings import Embeddings
from retrain.evaluation.confidence import Interval, interval
from retrain.evaluation.held_out_day import PAGE_SIZE, Evaluation, HeldOutDay
from retrain.evaluation.live_model import LiveModel
from retrain.evaluation.metrics import Quality, hits, ndcg, quality

MARGIN: Final = 0.02
"""Share of the live model's NDCG that a candidate may lose."""
USUAL_LIFT: Final = 0.2
"""How much better than popularity a first model should be, as a share of popularity's NDCG."""
POWER: Final = (1.96 + 1.645) / 1.96
"""Times half of a 95 % interval: a difference so large shows as one in 95 of 100 samples."""
MIN_USERS: Final = 100
"""Users below which nothing is compared."""
MIN_COVERAGE: Final = 0.5
"""Of the distinct videos on the live model's pages."""
MAX_POPULAR_SHARE: Final = 0.6
"""Of page places, for the most popular hundredth of videos: above it, a candidate is compared with the live model."""
MAX_POPULAR_RISE: Final = 1.25
"""Times the live model's share. How much goes to the popular differs by feed, so a first model has no limit."""
MAX_GROWTH: Final = 10.0
"""Times that the representations' mean length may change, up or down."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The candidate beside another ranking, on the same users."""

    rival: str
    """`popularity`, or `live`; with `.half` on the second half of the last day."""
    ndcg: float
    """The rival's."""
    difference: Interval
    """Of NDCG: the candidate's less the rival's."""
    on: str = "the last day"

    def __str__(self) -> str:
        """Return the comparison as text for people."""
        gap = self.difference
        return (
            f"NDCG@{PAGE_SIZE} {self.ndcg + gap.mean:.4f} against {self.ndcg:.4f} of {self.rival.partition('.')[0]} "
            f"on {self.on}, "
            f"difference {gap.mean:+.4f} ({gap.low:+.4f} to {gap.high:+.4f})"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The findings of the gate."""

    users: int
    comparisons: tuple[Comparison, ...] = ()
    problems: tuple[str, ...] = ()
    """Why the candidate must not go live, one reason each."""

    def __add__(self, later: "Verdict") -> "Verdict":
        """Return this verdict with later findings."""
        return Verdict(
            users=self.users,
            comparisons=self.comparisons + later.comparisons,
            problems=self.problems + later.problems,
        )


def judge(
    day: HeldOutDay,
    evaluation: Evaluation,
    candidate: Embeddings,
    live_model: LiveModel | None,
    *,
    since: datetime,
    until: datetime,
    threads: int = 1,
    seed: int = 0,
) -> Verdict:
    """Return the reasons against the candidate.

    Args:
        day: The held-out day.
        evaluation: The candidate's quality on it.
        candidate: What was learnt before the day, of its users.
        live_model: The live model; None where there is none.
        since: The day's beginning.
        until: Its end.
        threads: Threads to use.
        seed: Of the resampling.
    """
    grown = tuple(_growth_problems(day, candidate, live_model)) if live_model else ()
    if evaluation.users < MIN_USERS:
        return Verdict(users=evaluation.users, problems=grown)
    popularity, current, live = _beside_popularity(evaluation, seed), None, None
    if live_model and not live_model.knows(since):
        current, live = _beside_live(evaluation, day, live_pages(live_model, day, threads=threads), seed)
    elif live_model and (recorded := _recorded(live_model, until)) is not None:
        current = _beside_record(evaluation, recorded, seed)
    return Verdict(
        users=evaluation.users,
        comparisons=(popularity, current) if current else (popularity,),
        problems=(
            *grown,
            *popularity_problems(popularity, lift_of(live_model)),
            *(live_problems(current) if current else ()),
            *page_problems(evaluation.lightfm_prior, evaluation.popularity, live),
        ),
    )


def _growth_problems(day: HeldOutDay, candidate: Embeddings, live_model: LiveModel) -> Iterator[str]:
    # Newcomers, whom only the live model may know by now, have no vector in the candidate.
    known = day.users[candidate.of(day.users).user_factors.any(axis=1)]
    return length_problems(candidate.of(known), live_model.representations_of(known), "the live model's")


def _beside_popularity(evaluation: Evaluation, seed: int) -> Comparison:
    difference = interval(evaluation.lightfm_prior_gains - evaluation.popularity_gains, seed=seed)
    return Comparison(rival="popularity", ndcg=evaluation.popularity.ndcg, difference=difference)


def _beside_live(
    evaluation: Evaluation, day: HeldOutDay, pages: NDArray[np.int64], seed: int
) -> tuple[Comparison, Quality]:
    """Return the comparison with the live model's pages, and their quality."""
    live = quality(pages, day.relevant, day.popularity)
    gains = ndcg(hits(pages, day.relevant), day.relevant.lengths())
    difference = interval(evaluation.lightfm_prior_gains - gains, seed=seed)
    return Comparison(rival="live", ndcg=live.ndcg, difference=difference), live


def _beside_record(evaluation: Evaluation, recorded: float, seed: int) -> Comparison:
    difference = interval(evaluation.lightfm_prior_gains - recorded, seed=seed)
    return Comparison(rival="live", ndcg=recorded, difference=difference, on="the same day, as recorded")


def live_pages(live_model: LiveModel, day: HeldOutDay, *, threads: int = 1) -> NDArray[np.int64]:
    """Return the live model's pages, (n, 20).

    Popularity is that of the day, as servers keep it fresh between nights.
    """
    weight, scores = live_model.manifest.popularity_weight, live_model.representations_of(day.users).scores
    pages: NDArray[np.int64] = day.pages(scores, (weight,), threads=threads)[0]
    return pages


def _recorded(live_model: LiveModel, until: datetime) -> float | None:
    """Return the NDCG that a model of the same days was judged by: it has learnt from the held-out day since."""
    if live_model.manifest.data_until != until:
        return None
    return live_model.manifest.metrics.get(f"lightfm_prior.ndcg@{PAGE_SIZE}")


def lift_of(live_model: LiveModel | None) -> float | None:
    """Return the lift of the live model over popularity when it was judged, as a share of popularity's NDCG."""
    metrics = live_model.manifest.metrics if live_model else {}
    ndcg, popular = (metrics.get(f"{name}.ndcg@{PAGE_SIZE}", 0.0) for name in ("lightfm_prior", "popularity"))
    return ndcg / popular - 1 if ndcg > popular > 0 else None


def popularity_problems(comparison: Comparison, lift: float | None) -> Iterator[str]:
    """Yield the reason if popularity does as well.

    Worse than popularity always counts. Not better counts where the users are enough to tell: when the difference is
    nearer to nothing than to the live model's lift; without a live model, when a usual lift would have shown.
    """
    gap = comparison.difference
    if lift is None:
        is_telling = POWER * (gap.high - gap.low) / 2 <= USUAL_LIFT * comparison.ndcg
    else:
        is_telling = gap.mean < lift / 2 * comparison.ndcg
    if gap.high <= 0 or (gap.low <= 0 and is_telling):
        yield f"not better than popularity: {comparison}"


def live_problems(comparison: Comparison) -> Iterator[str]:
    """Yield the reason if the live model does better."""
    if comparison.difference.high < -MARGIN * comparison.ndcg:
        yield f"worse than the live model by more than {MARGIN:.0%}: {comparison}"


def page_problems(found: Quality, popularity: Quality, live: Quality | None) -> Iterator[str]:
    """Yield the reason if pages are all too much alike, beside those of popularity and of the live model."""
    least = max(popularity.coverage, MIN_COVERAGE * live.coverage if live else 0)
    if found.coverage < least:
        yield f"pages show {found.coverage:,} distinct videos, fewer than {least:,.0f}"
    most = max(MAX_POPULAR_SHARE, MAX_POPULAR_RISE * live.popularity_share) if live else 1.0
    if found.popularity_share > most:
        yield f"{found.popularity_share:.0%} of page places go to the most popular hundredth, more than {most:.0%}"


def length_problems(candidate: Embeddings, rival: Embeddings, whose: str) -> Iterator[str]:
    """Yield which of the candidate's representations have exploded or collapsed, beside another model's."""
    for name in ("user_factors", "video_factors"):
        length, usual = _mean_length(getattr(candidate, name)), _mean_length(getattr(rival, name))
        if usual and not usual / MAX_GROWTH <= length <= usual * MAX_GROWTH:
            yield f"the mean length of {name} is {length:.3g}, that of {whose} {usual:.3g}"


def _mean_length(factors: NDArray[np.float32]) -> float:
    """Return the mean length of the rows that are not zero."""
    lengths = np.sqrt(np.einsum("ij,ij->i", factors, factors))
    return float(lengths[lengths > 0].mean()) if lengths.any() else 0.0
