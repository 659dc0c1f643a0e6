"""The gate after training: may the candidate take the live model's place?

The candidate is judged by its fit on everything before the last day, the live model by its pages for the same viewers
of that day, and decayed popularity likewise. Differences are paired by viewer, so that viewers who are hard to please
weigh on neither side.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from retrain.bootstrap import Interval, interval
from retrain.champion import Champion
from retrain.evaluation import PAGE_SIZE, Evaluation, HeldOutDay
from retrain.metrics import Quality, hits, ndcg, quality
from retrain.representations import Representations

MARGIN: Final = 0.02
"""Share of the live model's NDCG that a candidate may lose."""
FEWEST_VIEWERS: Final = 100
"""Viewers below which nothing is compared."""
LEAST_COVERAGE: Final = 0.5
"""Of the distinct videos on the live model's pages."""
MOST_POPULAR_SHARE: Final = 0.6
"""Of page places, for the most popular hundredth of videos: above it, a candidate is compared with the live model."""
MOST_POPULAR_RISE: Final = 1.25
"""Times the live model's share. How much goes to the popular differs by feed, so a first model has no limit."""
MOST_GROWTH: Final = 10.0
"""Times that the representations' mean length may change, up or down."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The candidate and something else, on the same viewers."""

    rival: str
    """`popularity`, or `live`."""
    ndcg: float
    """The rival's."""
    difference: Interval
    """Of NDCG: the candidate's less the rival's."""
    on: str = "the last day"

    def __str__(self) -> str:
        """Return it for people."""
        gap = self.difference
        return (
            f"NDCG@{PAGE_SIZE} {self.ndcg + gap.mean:.4f} against {self.ndcg:.4f} of {self.rival} on {self.on}, "
            f"difference {gap.mean:+.4f} ({gap.low:+.4f} to {gap.high:+.4f})"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the gate found."""

    viewers: int
    comparisons: tuple[Comparison, ...] = ()
    problems: tuple[str, ...] = ()
    """Why the candidate must not go live, one reason each."""


def judge(
    day: HeldOutDay,
    evaluation: Evaluation,
    candidate: Representations,
    champion: Champion | None,
    *,
    since: datetime,
    until: datetime,
    threads: int = 1,
    seed: int = 0,
) -> Verdict:
    """Return what speaks against the candidate.

    Args:
        day: The held-out day.
        evaluation: The candidate's quality on it.
        candidate: What was learnt before the day.
        champion: The live model; None where there is none.
        since: The day's beginning.
        until: Its end.
        threads: Threads to use.
        seed: Of the resampling.
    """
    grown = length_problems(candidate, champion.representations, "the live model's") if champion else ()
    if evaluation.viewers < FEWEST_VIEWERS:
        return Verdict(viewers=evaluation.viewers, problems=tuple(grown))
    popularity = Comparison(
        rival="popularity",
        ndcg=evaluation.popularity.ndcg,
        difference=interval(evaluation.lightfm_prior_gains - evaluation.popularity_gains, seed=seed),
    )
    comparisons, live = [popularity], None
    if champion and not champion.knows(since):
        live, gains = _pages_of(champion, day, threads)
        difference = interval(evaluation.lightfm_prior_gains - gains, seed=seed)
        comparisons.append(Comparison(rival="live", ndcg=live.ndcg, difference=difference))
    elif champion and (recorded := _recorded(champion, until)) is not None:
        difference = interval(evaluation.lightfm_prior_gains - recorded, seed=seed)
        comparisons.append(
            Comparison(rival="live", ndcg=recorded, difference=difference, on="the same day, as recorded")
        )
    problems = [
        *grown,
        *_popularity_problems(popularity, first=champion is None),
        *(problem for comparison in comparisons[1:] for problem in _live_problems(comparison)),
        *_page_problems(evaluation.lightfm_prior, evaluation.popularity, live),
    ]
    return Verdict(viewers=evaluation.viewers, comparisons=tuple(comparisons), problems=tuple(problems))


def _pages_of(champion: Champion, day: HeldOutDay, threads: int) -> tuple[Quality, NDArray[np.float64]]:
    """Return the quality of the live model's pages, and the NDCG of each viewer's.

    Popularity is that of the day, as servers keep it fresh between nights.
    """
    weight = champion.manifest.popularity_weight
    (pages,) = day.pages(champion.representations.scores, (weight,), threads=threads)
    found = hits(pages, day.relevant)
    return quality(pages, day.relevant, day.popularity), ndcg(found, day.relevant.lengths())


def _recorded(champion: Champion, until: datetime) -> float | None:
    """Return the NDCG that a model of the same days was published with: it has learnt from the held-out day since."""
    if champion.manifest.data_until != until:
        return None
    return champion.manifest.metrics.get(f"lightfm_prior.ndcg@{PAGE_SIZE}")


def _popularity_problems(comparison: Comparison, *, first: bool) -> Iterator[str]:
    """Yield why popularity does as well; a first model must only not be clearly worse, as nothing is live yet."""
    if comparison.difference.high <= 0 or (not first and comparison.difference.low <= 0):
        yield f"not better than popularity: {comparison}"


def _live_problems(comparison: Comparison) -> Iterator[str]:
    if comparison.difference.high < -MARGIN * comparison.ndcg:
        yield f"worse than the live model by more than {MARGIN:.0%}: {comparison}"


def _page_problems(found: Quality, popularity: Quality, live: Quality | None) -> Iterator[str]:
    least = max(popularity.coverage, LEAST_COVERAGE * live.coverage if live else 0)
    if found.coverage < least:
        yield f"pages show {found.coverage:,} distinct videos, fewer than {least:,.0f}"
    most = max(MOST_POPULAR_SHARE, MOST_POPULAR_RISE * live.popularity_share) if live else 1.0
    if found.popularity_share > most:
        yield f"{found.popularity_share:.0%} of page places go to the most popular hundredth, more than {most:.0%}"


def length_problems(candidate: Representations, rival: Representations, whose: str) -> Iterator[str]:
    """Yield which of the candidate's representations have exploded or collapsed beside somebody's."""
    for name in ("user_factors", "video_factors"):
        length, usual = _mean_length(getattr(candidate, name)), _mean_length(getattr(rival, name))
        if usual and not usual / MOST_GROWTH <= length <= usual * MOST_GROWTH:
            yield f"the mean length of {name} is {length:.3g}, that of {whose} {usual:.3g}"


def _mean_length(factors: NDArray[np.float32]) -> float:
    """Return the mean length of the rows that are not zero."""
    lengths = np.sqrt(np.einsum("ij,ij->i", factors, factors))
    return float(lengths[lengths > 0].mean()) if lengths.any() else 0.0
