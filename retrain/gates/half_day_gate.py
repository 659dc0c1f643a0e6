"""Checks before publication whether learning from the last day does good.

The whole of the last day judges what was learnt before it. What is published has also learnt from that day, so nothing
is left to judge it by. A trial has learnt from the first half of the day only: it is judged on the second half, beside
the live model, before it learns from that as well (prequential evaluation: Dawid, "Statistical Theory: The Prequential
Approach", 1984). From the trial to what is published is a step of the same kind and size, and it must look like one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from retrain.embeddings import Embeddings
from retrain.evaluation.confidence import interval
from retrain.evaluation.held_out_day import HeldOutDay
from retrain.evaluation.metrics import hits, ndcg
from retrain.gates.quality_gate import Comparison, Verdict, live_problems, popularity_problems

SECOND_HALF: Final = "the second half of the last day"
MIN_USERS: Final = 100
"""Users of the second half below which there is no trial."""
MIN_AGREEMENT: Final = 0.5
"""Of that of the trial with the live model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HalfDayCandidate:
    """The result of a fit that has learnt from the first half of the last day."""

    half: HeldOutDay
    """The second half."""
    weight: float
    """Of the popularity prior."""
    pages: NDArray[np.int64]
    """(n, 20) of the half's users."""
    agreement: float
    """With the live model: the share of the places of their pages that hold the same videos."""
    verdict: Verdict


def judge_trial(
    half: HeldOutDay,
    candidate: Embeddings,
    weight: float,
    live: NDArray[np.int64],
    *,
    lift: float | None,
    threads: int = 1,
    seed: int = 0,
) -> HalfDayCandidate:
    """Return the reasons not to go on.

    Args:
        half: The second half of the last day, as known at its beginning.
        candidate: What was learnt before it, of its users.
        weight: Of the popularity prior, chosen before it.
        live: (n, 20) pages of the live model, which has learnt nothing of the day.
        lift: How much better than popularity that was when it was judged, as a share of popularity's NDCG.
        threads: Threads to use.
        seed: Of the resampling.
    """
    (pages,) = half.pages(candidate.scores, (weight,), threads=threads)
    gains = _gains(half, pages)
    popularity, current = (
        _comparison(rival, gains, _gains(half, its), seed)
        for rival, its in (("popularity.half", half.popular_pages()), ("live.half", live))
    )
    return HalfDayCandidate(
        half=half,
        weight=weight,
        pages=pages,
        agreement=agreement(pages, live),
        verdict=Verdict(
            users=len(half.users),
            comparisons=(popularity, current),
            problems=(*popularity_problems(popularity, lift), *live_problems(current)),
        ),
    )


def final_problems(trial: HalfDayCandidate, final: Embeddings, *, threads: int = 1, seed: int = 0) -> Iterator[str]:
    """Yield the reasons why the fit on the whole day breaks the promise of the half day.

    On what it has learnt from it can only be better, and its pages change about as much as they did in the first half.
    """
    (pages,) = trial.half.pages(final.scores, (trial.weight,), threads=threads)
    gain = interval(_gains(trial.half, pages) - _gains(trial.half, trial.pages), seed=seed)
    if gain.high < 0:
        yield f"NDCG falls by {-gain.mean:.4f} on {SECOND_HALF} when that is learnt from"
    shared, least = agreement(pages, trial.pages), MIN_AGREEMENT * trial.agreement
    if shared < least:
        yield f"{SECOND_HALF} leaves {shared:.0%} of page places as they were, less than {least:.0%}"


def agreement(pages: NDArray[np.int64], others: NDArray[np.int64]) -> float:
    """Return the share of filled places, (n, k) each, whose video is also on the other page of the same user."""
    span = max(pages.max(initial=-1), others.max(initial=-1)) + 1
    first, second = (np.arange(len(one))[:, None] * span + one for one in (pages, others))
    filled = pages >= 0
    return float(np.isin(first[filled], second[others >= 0]).mean()) if filled.any() else 1.0


def _comparison(rival: str, gains: NDArray[np.float64], theirs: NDArray[np.float64], seed: int) -> Comparison:
    difference = interval(gains - theirs, seed=seed)
    return Comparison(rival=rival, ndcg=float(theirs.mean()), difference=difference, on=SECOND_HALF)


def _gains(day: HeldOutDay, pages: NDArray[np.int64]) -> NDArray[np.float64]:
    return ndcg(hits(pages, day.relevant), day.relevant.lengths())
