"""Evaluates parts of the users and of the videos: an average hides whom it serves badly."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelstore.artefact import RowLists
from retrain.evaluation.confidence import Interval, interval
from retrain.evaluation.metrics import hits, ndcg, recall

USERS: Final = {"new": (0, 0), "light": (1, 19), "regular": (20, None)}
"""Slices of users by how many videos they had been shown, from and to."""
VIDEOS: Final = {"unseen": (0, 0), "rare": (1, 49), "known": (50, None)}
"""Slices of relevant videos by how many users had been shown them, from and to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """Quality for a part of the users or videos; liked videos outside of the part do not count."""

    name: str
    """Such as `users.new`."""
    users: int
    recall: Interval
    ndcg: Interval


def slices(
    pages: NDArray[np.int64], users: NDArray[np.int64], relevant: RowLists, seen: RowLists, *, seed: int
) -> list[Segment]:
    """Return the quality for all, and for each part that has users.

    Args:
        pages: (n, k) video rows, best first; -1 for an empty place.
        users: (n,) rows of the users.
        relevant: n lists of what they liked, none empty.
        seen: What each user of the model had been shown, U lists.
        seed: Of the resampling.
    """
    lists = np.repeat(np.arange(len(users)), relevant.lengths())
    shown, showings = seen.lengths()[users], np.bincount(seen.rows, minlength=int(relevant.rows.max(initial=0)) + 1)
    found = [("all", np.ones(len(lists), np.bool_))]
    found += [(f"users.{name}", one[lists]) for name, one in _parts(shown, USERS)]
    found += [(f"videos.{name}", one[relevant.rows]) for name, one in _parts(showings, VIDEOS)]
    return [_slice(name, pages, relevant.rows[kept], lists[kept], seed) for name, kept in found if kept.any()]


def _parts(
    counts: NDArray[np.int64], bounds: dict[str, tuple[int, int | None]]
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    for name, (low, high) in bounds.items():
        yield name, (counts >= low) & (counts <= (np.inf if high is None else high))


def _slice(
    name: str, pages: NDArray[np.int64], rows: NDArray[np.int32], lists: NDArray[np.int64], seed: int
) -> Segment:
    users, counts = np.unique(lists, return_counts=True)
    relevant = RowLists(np.concatenate(([0], np.cumsum(counts))), rows)
    found = hits(pages[users], relevant)
    return Segment(
        name=name,
        users=len(users),
        recall=interval(recall(found, counts), seed=seed),
        ndcg=interval(ndcg(found, counts), seed=seed),
    )
