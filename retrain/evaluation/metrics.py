"""Computes quality of pages: recall@k, NDCG@k, coverage, popularity share and novelty.

Conventions: recall divides by all relevant videos of a user, the ideal of NDCG by those that fit on the page, and
every relevant video gains 1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelstore.artefact import RowLists


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """Quality of pages of k videos, averaged over users."""

    recall: float
    ndcg: float
    coverage: int
    """Distinct videos on all pages together."""
    popularity_share: float
    """Share of page places that go to the most popular hundredth of all videos."""
    novelty: float
    """Bits of surprise of a place on average: minus the log2 of its video's share of all popularity."""


def hits(pages: NDArray[np.int64], relevant: RowLists) -> NDArray[np.bool_]:
    """Return which places of the pages hold a relevant video.

    Args:
        pages: (n, k) video rows, best first; -1 for an empty place.
        relevant: n lists of the relevant video rows, each ascending.
    """
    # One number for each pair of list and video, so that one look-up does for all pages.
    span = max(pages.max(initial=-1), relevant.rows.max(initial=-1)) + 1
    lists = np.arange(len(pages))
    wanted = np.repeat(lists, relevant.lengths()) * span + relevant.rows
    return np.isin(lists[:, None] * span + pages, wanted) & (pages >= 0)


def recall(found: NDArray[np.bool_], relevant_counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return recall of each page, (n,): relevant videos on it by all of the user's, at least one."""
    shares: NDArray[np.float64] = found.sum(axis=1) / relevant_counts
    return shares


def ndcg(found: NDArray[np.bool_], relevant_counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return normalised discounted cumulative gain of each page, (n,) (Järvelin and Kekäläinen, 2002)."""
    discounts = 1 / np.log2(np.arange(found.shape[1]) + 2)
    ideal = np.cumsum(discounts)[np.minimum(relevant_counts, found.shape[1]) - 1]
    gains: NDArray[np.float64] = (found * discounts).sum(axis=1) / ideal
    return gains


def coverage(pages: NDArray[np.int64]) -> int:
    """Return how many distinct videos stand on the pages."""
    return len(np.unique(pages[pages >= 0]))


def popularity_share(pages: NDArray[np.int64], popularity: NDArray[np.float32]) -> float:
    """Return the share of filled places that go to the most popular hundredth of all videos, at least one."""
    head = np.argsort(-popularity, kind="stable")[: max(1, len(popularity) // 100)]
    filled = pages[pages >= 0]
    return float(np.isin(filled, head).mean()) if len(filled) else 0.0


def novelty(pages: NDArray[np.int64], popularity: NDArray[np.float32]) -> float:
    """Return the mean self-information of filled places in bits (Zhou et al., 2010), each video counted once more."""
    shares = (popularity + 1.0) / (popularity.sum(dtype=np.float64) + len(popularity))
    filled = pages[pages >= 0]
    return float(-np.log2(shares[filled]).mean()) if len(filled) else 0.0


def quality(pages: NDArray[np.int64], relevant: RowLists, popularity: NDArray[np.float32]) -> Quality:
    """Return the quality of one page a user, of at least one user with at least one relevant video each."""
    found = hits(pages, relevant)
    return Quality(
        recall=float(recall(found, relevant.lengths()).mean()),
        ndcg=float(ndcg(found, relevant.lengths()).mean()),
        coverage=coverage(pages),
        popularity_share=popularity_share(pages, popularity),
        novelty=novelty(pages, popularity),
    )
