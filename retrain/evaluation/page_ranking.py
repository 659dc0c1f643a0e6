"""Ranks pages of many users under many weights of one prior, in one pass over the scores.

The ranking score is `score + weight · prior`. To sort everything would cost more than the training. So of each group of
videos it is first counted how many have a higher one than the last of the page so far: mostly none has, and a processor
compares many numbers at once.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from modelstore.artefact import RowLists
from retrain.numba_cache import compiled

Scores: TypeAlias = Callable[[NDArray[np.int64], NDArray[np.float32]], object]
"""Writes the scores of all videos for some users into an array, (n, V)."""

BLOCK_SCORES: Final = 1 << 23
"""Scores that a thread asks for at once: of few users, a matrix product takes three times as long."""
GROUP: Final = 64
"""Videos that are compared at once."""


def best_pages(
    scores: Scores,
    users: NDArray[np.int64],
    seen: RowLists,
    prior: NDArray[np.float32],
    weights: Sequence[float],
    *,
    size: int,
    threads: int = 1,
) -> NDArray[np.int64]:
    """Return each user's page under each weight.

    Among equal scores the lower row comes first. Videos whose score is -inf are on no page.

    Args:
        scores: Of users.
        users: (n,) rows of the users.
        seen: What each user of the model may not be shown, U lists.
        prior: (V,), finite.
        weights: Of the prior.
        size: Places of a page, at least 1.
        threads: Threads to use.

    Returns:
        (weights, n, size) rows of videos, best first; -1 where none is left.
    """
    if size < 1:
        raise ValueError("a page has at least one place")
    pages = np.full((len(users), len(weights), size), -1, np.int64)
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
            _rank(pages[begin : begin + step], rows, prior, np.array(weights, np.float32))

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, range(threads)):
            pass  # raises what a thread raised
    return pages.swapaxes(0, 1)


def load() -> None:
    """Load or compile the ranking, once a process: else the first pages do."""
    pages, values = np.empty((0, 0, 1), np.int64), np.empty(0, np.float32)
    _rank(pages, np.empty((0, 0), np.float32), values, values)


def first_unseen(users: NDArray[np.int64], seen: RowLists, order: NDArray[np.int64], *, size: int) -> NDArray[np.int64]:
    """Return each user's page, (n, size), for one ranking of all users; -1 if no video is left.

    Args:
        users: (n,) rows of the users.
        seen: What each user of the model may not be shown, U lists.
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


@compiled()
def _rank(
    pages: NDArray[np.int64], scores: NDArray[np.float32], prior: NDArray[np.float32], weights: NDArray[np.float32]
) -> None:
    """Write pages of users, (n, weights, size), whose scores are (n, V)."""
    sums = np.empty(pages.shape[2], np.float32)
    for user in range(len(scores)):
        for place, weight in enumerate(weights):
            _fill(pages[user, place], sums, scores[user], prior, weight)


@compiled()
def _fill(
    page: NDArray[np.int64],
    sums: NDArray[np.float32],
    scores: NDArray[np.float32],
    prior: NDArray[np.float32],
    weight: np.float32,
) -> None:
    """Write the videos of the largest sums, largest first, and these sums."""
    sums[:] = -np.inf
    for begin in range(0, len(scores), GROUP):
        group, its_prior, lowest = scores[begin : begin + GROUP], prior[begin : begin + GROUP], sums[-1]
        higher = 0
        for place in range(len(group)):
            higher += group[place] + weight * its_prior[place] > lowest
        if higher:
            for place in range(len(group)):
                if group[place] + weight * its_prior[place] > sums[-1]:
                    _insert(page, sums, begin + place, group[place] + weight * its_prior[place])


@compiled()
def _insert(page: NDArray[np.int64], sums: NDArray[np.float32], video: int, total: np.float32) -> None:
    """Insert a video behind those of the page that score no less; the last one then leaves the page."""
    place = len(page) - 1
    while place and sums[place - 1] < total:
        page[place], sums[place] = page[place - 1], sums[place - 1]
        place -= 1
    page[place], sums[place] = video, total
