"""Pages of many viewers under many weights of one prior, from one pass over the scores.

The ranking score is `score + weight · prior`. A video cannot be on a page, whatever the weight, when as many videos as
fit on it have both a better score and no smaller prior. So of what comes after the videos with the largest priors, only
what is better than the worst of a page of these is looked at; of these themselves, likewise, in growing blocks. Some
hundreds of videos are left, among which every weight then chooses: a matrix product and a sort of everything for each
weight would cost more than the training.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recsvc.artefact import Csr

Scores: TypeAlias = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Returns the scores of all videos for some viewers, (n, V), an array that the caller may change."""

BLOCK_SCORES: Final = 1 << 22
"""Scores that a thread holds at once."""
HEAD: Final = 1024
"""Videos with the largest priors."""
BLOCK: Final = 256
"""Videos of the first block of these; each further one is twice as large."""


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
        weights: Not negative; infinity ranks by the prior alone.
        size: Places of a page.
        threads: Threads to use.

    Returns:
        (weights, n, size) rows of videos, best first; -1 where none is left.
    """
    pages = np.full((len(weights), len(users), size), -1, np.int64)
    order = np.argsort(-prior, kind="stable")
    head = order[: max(HEAD, size)]
    bounds = _bounds(len(head), max(BLOCK, size))
    step = max(1, BLOCK_SCORES // max(1, len(prior)))

    def fill(begin: int) -> None:
        block = users[begin : begin + step]
        for place, (user, row) in enumerate(zip(block.tolist(), scores(block), strict=True), begin):
            row[seen[user]] = -np.inf
            rows = _candidates(row, head, bounds, size)
            for number, weight in enumerate(weights):
                best = _best(row[rows], prior[rows], weight, size)
                pages[number, place, : len(best)] = rows[best]

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(fill, range(0, len(users), step)):
            pass  # raises what a thread raised
    return pages


def _bounds(count: int, head: int) -> list[tuple[int, int]]:
    bounds, begin, width = [], 0, head
    while begin < count:
        bounds.append((begin, min(begin + width, count)))
        begin, width = begin + width, 2 * width
    return bounds


def _candidates(
    row: NDArray[np.float32], head: NDArray[np.int64], bounds: Sequence[tuple[int, int]], size: int
) -> NDArray[np.int64]:
    """Return the rows of what may be on a page, ascending, of a viewer's scores."""
    if not len(head):
        return head
    of_head = row[head]
    places = np.concatenate([*_kept(of_head, bounds, size)])
    worst = np.partition(of_head, -size)[-size] if len(head) >= size else _LOWEST
    bound = max(worst, _LOWEST)  # scores of -inf are never kept
    rows = np.concatenate((np.flatnonzero(row >= bound), head[places[of_head[places] < bound]]))
    rows.sort()
    return rows


def _kept(scores: NDArray[np.float32], bounds: Sequence[tuple[int, int]], size: int) -> Iterator[NDArray[np.int64]]:
    """Yield the places of what may be on a page, of scores in the order of falling prior."""
    best = np.full(size, -np.inf, np.float32)
    for begin, end in bounds:
        part = scores[begin:end]
        # Equals of the worst are kept, as their prior may be equal as well.
        kept = np.flatnonzero(part >= max(best[0], _LOWEST))
        yield kept + begin
        best = np.sort(np.concatenate((best, part[kept])))[-size:]


def _best(scores: NDArray[np.float32], prior: NDArray[np.float32], weight: float, size: int) -> NDArray[np.int64]:
    """Return the places of the best, best first."""
    sums = prior if np.isinf(weight) else scores + np.float32(weight) * prior
    if len(sums) <= size:
        return np.argsort(-sums, kind="stable")
    likely = np.flatnonzero(sums >= np.partition(sums, -size)[-size])
    best: NDArray[np.int64] = likely[np.argsort(-sums[likely], kind="stable")[:size]]
    return best


_LOWEST: Final = np.finfo(np.float32).min
