"""Pages of many viewers under many weights of one prior, from one pass over the scores.

The ranking score is `score + weight · prior`. To sort everything would cost more than the training. Of a row of ranking
scores, the largest of each of some hundreds of groups of videos are found first: as many videos as fit on a page are no
worse than the last but so many of these, so only what is no worse either is looked at. That is hardly more than a page.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recsvc.artefact import Csr

Scores: TypeAlias = Callable[[NDArray[np.int64], NDArray[np.float32]], object]
"""Writes the scores of all videos for some viewers into an array, (n, V)."""

BLOCK_SCORES: Final = 1 << 23
"""Scores that a thread asks for at once: of few viewers, a matrix product takes three times as long."""
PART_SCORES: Final = 1 << 18
"""Scores that are looked at at once: what fits into a core's cache."""
GROUPS: Final = 512
"""Groups of videos, at most."""
LOWEST: Final = np.finfo(np.float32).min


def best_pages(
    scores: Scores,
    users: NDArray[np.int64],
    seen: Csr,
    prior: NDArray[np.float32],
    weights: Sequence[float],
    *,
    size: int,
    threads: int = 1,
) -> NDArray[np.int64]:
    """Return each viewer's page under each weight.

    Among equal scores the lower row comes first. Videos whose score is -inf are on no page.

    Args:
        scores: Of viewers.
        users: (n,) rows of the viewers.
        seen: What each viewer of the model may not be shown, U lists.
        prior: (V,), finite.
        weights: Of the prior.
        size: Places of a page.
        threads: Threads to use.

    Returns:
        (weights, n, size) rows of videos, best first; -1 where none is left.
    """
    pages = np.full((len(weights), len(users), size), -1, np.int64)
    step = max(1, min(BLOCK_SCORES // max(1, len(prior)), -(-len(users) // threads)))
    blocks = iter(range(0, len(users), step))

    def work(_: int) -> None:
        buffer = np.empty((step, len(prior)), np.float32)  # one for all blocks: new memory costs as much as the product
        for begin in blocks:
            block = users[begin : begin + step]
            rows = buffer[: len(block)]
            scores(block, rows)
            for row, user in zip(rows, block.tolist(), strict=True):
                row[seen[user]] = -np.inf
            _rank(pages[:, begin : begin + step], rows, prior, weights)

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, range(threads)):
            pass  # raises what a thread raised
    return pages


def first_unseen(users: NDArray[np.int64], seen: Csr, order: NDArray[np.int64], *, size: int) -> NDArray[np.int64]:
    """Return each viewer's page, (n, size), where all are ranked for alike; -1 where none is left.

    Args:
        users: (n,) rows of the viewers.
        seen: What each viewer of the model may not be shown, U lists.
        order: (V,) rows of all videos, best first.
        size: Places of a page.
    """
    pages = np.full((len(users), size), -1, np.int64)
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    for page, user in zip(pages, users.tolist(), strict=True):
        hidden = ranks[seen[user]]
        is_free = np.ones(min(len(order), size + len(hidden)), np.bool_)
        is_free[hidden[hidden < len(is_free)]] = False
        first = np.flatnonzero(is_free)[:size]
        page[: len(first)] = order[first]
    return pages


def _rank(
    pages: NDArray[np.int64], scores: NDArray[np.float32], prior: NDArray[np.float32], weights: Sequence[float]
) -> None:
    """Write pages of viewers, (weights, n, size), whose scores are (n, V)."""
    step = max(1, PART_SCORES // max(1, len(prior)))
    for page, weight in zip(pages, weights, strict=True):
        for begin in range(0, len(scores), step):
            _fill(page[begin : begin + step], scores[begin : begin + step] + np.float32(weight) * prior)


def _fill(pages: NDArray[np.int64], sums: NDArray[np.float32]) -> None:
    """Write the columns of the largest sums of each row, largest first."""
    size, width = pages.shape[1], sums.shape[1]
    places = np.flatnonzero(sums >= _bounds(sums, size)[:, None])
    rows, columns = np.divmod(places, max(1, width))
    order = np.lexsort((-sums.ravel()[places], rows))
    rows, columns = rows[order], columns[order]
    ranks = np.arange(len(rows)) - np.searchsorted(rows, rows)
    fits = ranks < size
    pages[rows[fits], ranks[fits]] = columns[fits]


def _bounds(sums: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return what as many sums of each row as there are places reach, where so many are left."""
    groups = min(GROUPS, sums.shape[1])
    if groups < size:
        return np.full(len(sums), LOWEST)
    largest = sums[:, : sums.shape[1] // groups * groups].reshape(len(sums), -1, groups).max(axis=1)
    bounds: NDArray[np.float32] = np.maximum(np.partition(largest, -size, axis=1)[:, -size], LOWEST)
    return bounds
