"""Pages under many weights of a prior equal those of a plain sort."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelstore.artefact import RowLists
from retrain.evaluation import page_ranking
from retrain.evaluation.page_ranking import Scores, best_pages, first_unseen

WEIGHTS = (0.0, 0.25, 1.0, 3.0)
USERS = 6


def plainly_sorted(
    scores: NDArray[np.float32], seen: RowLists, prior: NDArray[np.float32], weight: float, size: int
) -> list[list[int]]:
    """Return each user's page, from sorting everything."""
    found = []
    for user, row in enumerate(scores):
        sums = row + np.float32(weight) * prior
        hidden = {*seen[user].tolist(), *np.flatnonzero(np.isneginf(row)).tolist()}
        best = [video for video in np.argsort(-sums, kind="stable").tolist() if video not in hidden][:size]
        found.append(best + [-1] * (size - len(best)))
    return found


def written(scores: NDArray[np.float32]) -> Scores:
    return lambda users, out: np.copyto(out, scores[users])


@given(seed=st.integers(0, 2**32 - 1), videos=st.integers(0, 400), values=st.sampled_from([2, 5, 1000, None]))
def test_pages_are_those_of_a_plain_sort(seed: int, videos: int, values: int | None) -> None:
    """Also with many equal scores and priors, with more seen than fits, and with fewer videos than places.

    None: any numbers, whose sums are rounded.
    """
    random = np.random.default_rng(seed)
    if values is None:
        scores, prior = random.random((USERS, videos), np.float32), 3 * random.random(videos, np.float32)
    else:
        scores = (random.integers(0, values, (USERS, videos)) / 8).astype(np.float32)
        prior = (random.integers(0, values, videos) / 16).astype(np.float32)
    scores[random.random(scores.shape) < 0.05] = -np.inf
    lists = [np.flatnonzero(random.random(videos) < share) for share in random.random(USERS)]
    seen = RowLists(np.cumsum([0, *map(len, lists)]), np.concatenate(lists).astype(np.int32))
    found = best_pages(written(scores), np.arange(USERS), seen, prior, WEIGHTS, size=20)
    for number, weight in enumerate(WEIGHTS):
        assert found[number].tolist() == plainly_sorted(scores, seen, prior, weight, 20)
    order = np.argsort(-prior, kind="stable")
    nothing = np.zeros_like(scores)
    assert first_unseen(np.arange(USERS), seen, order, size=20).tolist() == plainly_sorted(nothing, seen, prior, 1, 20)


@pytest.mark.parametrize("threads", [1, 3])
def test_neither_blocks_nor_threads_show(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    random = np.random.default_rng(1)
    scores, prior = random.random((50, 900), np.float32), random.random(900, np.float32)
    seen, users = RowLists(np.zeros(51, np.int64), np.empty(0, np.int32)), np.arange(0, 50, 2)

    def found() -> NDArray[np.int64]:
        return best_pages(written(scores), users, seen, prior, WEIGHTS, size=20, threads=threads)

    whole = found()
    monkeypatch.setattr(page_ranking, "BLOCK_SCORES", 6000)
    np.testing.assert_array_equal(found(), whole)
    assert (whole >= 0).all()


def test_sums_are_rounded_as_numpy_rounds_them() -> None:
    """A product that is fused with the sum is not rounded: then the first video would come first."""
    weight = np.float32(1 + 2**-12)  # its square has one binary digit too many
    scores, prior = np.array([[-weight * weight, 2**-30]], np.float32), np.array([weight, 0], np.float32)
    seen = RowLists(np.zeros(2, np.int64), np.empty(0, np.int32))
    assert best_pages(written(scores), np.arange(1), seen, prior, [float(weight)], size=2).tolist() == [[[1, 0]]]


def test_a_page_without_a_place_is_refused() -> None:
    seen = RowLists(np.zeros(2, np.int64), np.empty(0, np.int32))
    with pytest.raises(ValueError, match="at least one place"):
        best_pages(written(np.zeros((1, 3), np.float32)), np.arange(1), seen, np.zeros(3, np.float32), [0.0], size=0)


def test_a_failure_in_a_thread_is_the_callers() -> None:
    def scores(*_: object) -> None:
        raise MemoryError("too much")

    with pytest.raises(MemoryError, match="too much"):
        best_pages(
            scores,
            np.arange(2),
            RowLists(np.zeros(3, np.int64), np.empty(0, np.int32)),
            np.zeros(9, np.float32),
            [0.0],
            size=5,
            threads=2,
        )


def test_what_is_loaded_ahead_is_what_ranks() -> None:
    page_ranking.load()
    seen = RowLists(np.zeros(5, np.int64), np.empty(0, np.int32))
    for weights, threads in (([0.0], 1), (WEIGHTS, 3)):
        best_pages(
            written(np.zeros((4, 9), np.float32)), np.arange(4), seen, np.zeros(9, np.float32), weights,
            size=5, threads=threads,
        )  # fmt: skip
    assert len(page_ranking._rank.signatures) == 1  # type: ignore[attr-defined]
