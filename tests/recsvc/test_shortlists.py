"""Shortlists answer as the whole ranking does."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsvc.feed_page import Unwanted
from recsvc.ranking import Barred, ExactRanker, Ranked
from recsvc.serving_model import ServingModel
from recsvc.shortlists import LENGTH, Shortlists
from recsvc.viewers import COLD, Viewer, ViewerState
from tests.recsvc.models import random_model

VIDEOS = 2 * LENGTH
NOTHING = Unwanted()
SERVING = {videos: ServingModel.of(random_model(videos=videos)) for videos in (VIDEOS, 30)}


class CountingRanker(ExactRanker):
    """Counts how often the whole ranking is asked."""

    asked = 0

    def top(self, viewer: Viewer, count: int, barred: Barred) -> Ranked:
        self.asked += 1
        return super().top(viewer, count, barred)


def ranker_of(seed: int, videos: int = VIDEOS) -> CountingRanker:
    """Return a ranker of coarse numbers, so that scores tie."""
    rng = np.random.default_rng(seed)
    factors = rng.integers(-2, 3, (videos, 4)).astype(np.float32)
    return CountingRanker(factors, rng.integers(-2, 3, videos).astype(np.float32))


def viewer_of(seed: int, seen: NDArray[np.int32] | None = None) -> Viewer:
    rng = np.random.default_rng(seed)
    return Viewer(
        state=ViewerState.TRAINED,
        vector=rng.integers(-2, 3, 4).astype(np.float32),
        bias=0.5,
        seen=rng.choice(VIDEOS, 30, replace=False).astype(np.int32) if seen is None else seen,
    )


def serving(ranker: ExactRanker) -> ServingModel:
    """Return a model in which this ranker ranks."""
    return replace(SERVING[len(ranker.static)], ranker=ranker)


def answer(  # noqa: PLR0917  # most have defaults
    shortlists: Shortlists,
    ranker: ExactRanker,
    viewer: Viewer,
    count: int,
    unwanted: Unwanted = NOTHING,
    name: str = "u",
) -> Ranked:
    return shortlists.top(serving(ranker), name, viewer, count, unwanted)


@given(
    seed=st.integers(0, 1000),
    count=st.integers(1, LENGTH),
    barred=st.integers(0, VIDEOS),
    served=st.integers(0, LENGTH),
    masked=st.sampled_from([None, 0.1, 0.5, 0.97]),
)
def test_a_shortlist_answers_as_the_ranking(
    seed: int, count: int, barred: int, served: int, masked: float | None
) -> None:
    """Whatever is barred, rows and scores are those of the scan, ties included; nothing barred or seen comes."""
    rng = np.random.default_rng(seed)
    ranker, viewer, shortlists = ranker_of(seed), viewer_of(seed + 1), Shortlists()
    mask = None if masked is None else rng.random(VIDEOS) < masked
    fingerprints = SERVING[VIDEOS].fingerprints
    shown = ranker.top(viewer, served, Barred((viewer.seen,))).rows if served else np.empty(0, np.int64)
    condition = Unwanted(fingerprints.of(shown), rng.choice(VIDEOS, barred, replace=False), mask)
    for _ in range(2):
        found = answer(shortlists, ranker, viewer, count, condition)

        gone: NDArray[np.int64] = np.concatenate((viewer.seen, condition.rows, fingerprints.rows(condition.served)))
        expected = ranker.top(viewer, count, Barred((gone,), mask))
        assert found.rows.tolist() == expected.rows.tolist()
        assert found.scores.tolist() == expected.scores.tolist()
        assert not set(found.rows.tolist()) & set(gone.tolist())


def test_pages_of_a_known_viewer_need_no_scan() -> None:
    ranker, viewer, shortlists = ranker_of(1), viewer_of(2), Shortlists()
    shown = np.empty(0, np.int64)
    for _ in range(10):
        page = answer(shortlists, ranker, viewer, 20, Unwanted(rows=shown))
        shown = np.concatenate((shown, page.rows))

    assert len(np.unique(shown)) == 200
    assert ranker.asked == 1


def test_another_model_ranks_anew() -> None:
    viewer, shortlists = viewer_of(2), Shortlists()
    answer(shortlists, ranker_of(1), viewer, 20)
    other = ranker_of(3)

    assert (
        answer(shortlists, other, viewer, 20).rows.tolist()
        == other.top(viewer, 20, Barred((viewer.seen,))).rows.tolist()
    )


@pytest.mark.parametrize(
    "change", [{"state": ViewerState.FOLDED_IN, "interactions": ("something",)}, {"state": ViewerState.FOLDED_IN}]
)
def test_a_viewer_of_whom_more_is_known_is_ranked_anew(change: dict[str, Any]) -> None:
    """What was seen since never comes back from a list that was made before."""
    ranker, viewer, shortlists = ranker_of(1), viewer_of(2), Shortlists()
    first = answer(shortlists, ranker, viewer, 20)
    later = viewer._replace(seen=np.concatenate((viewer.seen, first.rows.astype(np.int32))), **change)

    assert not set(answer(shortlists, ranker, later, 20).rows.tolist()) & set(first.rows.tolist())


def test_the_oldest_lists_give_way() -> None:
    ranker, shortlists = ranker_of(1), Shortlists(kept=3)
    for name in ("a", "b", "c", "d"):
        answer(shortlists, ranker, COLD, 5, name=name)

    assert len(shortlists) == 3


def test_the_lists_of_earlier_rankers_are_dropped_little_by_little() -> None:
    """Each would keep its model in memory."""
    shortlists, old, new = Shortlists(), ranker_of(1), ranker_of(2)
    for index in range(20):
        answer(shortlists, old, COLD, 5, name=f"u{index}")
    sizes = []
    for index in range(4):
        answer(shortlists, new, COLD, 5, name=f"n{index}")
        sizes.append(len(shortlists))

    assert sizes == [13, 6, 3, 4]


def test_a_ranking_that_ends_is_answered_from_its_list() -> None:
    ranker, shortlists = ranker_of(1, videos=30), Shortlists()
    for _ in range(2):
        assert len(answer(shortlists, ranker, COLD, 50)) == 30

    assert ranker.asked == 1
