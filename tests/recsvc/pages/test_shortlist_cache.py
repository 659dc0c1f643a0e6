"""Shortlists answer as the whole ranking does."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsvc.domain.user import COLD, User, UserState
from recsvc.model.serving_model import ServingModel
from recsvc.pages.request_exclusions import RequestExclusions
from recsvc.pages.shortlist_cache import LENGTH, Shortlists
from recsvc.ranking.exact import ExactRanker, Exclusions, Ranked
from tests.recsvc.support.models import random_model

VIDEOS = 2 * LENGTH
NOTHING = RequestExclusions()
SERVING = {videos: ServingModel.of(random_model(videos=videos)) for videos in (VIDEOS, 30)}


class CountingRanker(ExactRanker):
    """Counts how often the whole ranking is asked."""

    asked = 0

    def top(self, user: User, count: int, barred: Exclusions) -> Ranked:
        self.asked += 1
        return super().top(user, count, barred)


def ranker_of(seed: int, videos: int = VIDEOS) -> CountingRanker:
    """Return a ranker of coarse numbers, so that scores tie."""
    rng = np.random.default_rng(seed)
    factors = rng.integers(-2, 3, (videos, 4)).astype(np.float32)
    return CountingRanker(factors, rng.integers(-2, 3, videos).astype(np.float32))


def user_of(seed: int, seen: NDArray[np.int32] | None = None) -> User:
    rng = np.random.default_rng(seed)
    return User(
        state=UserState.TRAINED,
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
    user: User,
    count: int,
    unwanted: RequestExclusions = NOTHING,
    name: str = "u",
) -> Ranked:
    return shortlists.top(serving(ranker), name, user, count, unwanted)


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
    ranker, user, shortlists = ranker_of(seed), user_of(seed + 1), Shortlists()
    mask = None if masked is None else rng.random(VIDEOS) < masked
    fingerprints = SERVING[VIDEOS].fingerprints
    shown = ranker.top(user, served, Exclusions((user.seen,))).rows if served else np.empty(0, np.int64)
    condition = RequestExclusions(fingerprints.of_rows[shown], rng.choice(VIDEOS, barred, replace=False), mask)
    for _ in range(2):
        found = answer(shortlists, ranker, user, count, condition)

        gone: NDArray[np.int64] = np.concatenate((user.seen, condition.rows, fingerprints.rows(condition.served)))
        expected = ranker.top(user, count, Exclusions((gone,), mask))
        assert found.rows.tolist() == expected.rows.tolist()
        assert found.scores.tolist() == expected.scores.tolist()
        assert not set(found.rows.tolist()) & set(gone.tolist())


def test_pages_of_a_known_user_need_no_scan() -> None:
    ranker, user, shortlists = ranker_of(1), user_of(2), Shortlists()
    shown = np.empty(0, np.int64)
    for _ in range(10):
        page = answer(shortlists, ranker, user, 20, RequestExclusions(rows=shown))
        shown = np.concatenate((shown, page.rows))

    assert len(np.unique(shown)) == 200
    assert ranker.asked == 1


def test_another_model_ranks_anew() -> None:
    user, shortlists = user_of(2), Shortlists()
    answer(shortlists, ranker_of(1), user, 20)
    other = ranker_of(3)

    assert (
        answer(shortlists, other, user, 20).rows.tolist() == other.top(user, 20, Exclusions((user.seen,))).rows.tolist()
    )


@pytest.mark.parametrize(
    "change", [{"state": UserState.FOLDED_IN, "interactions": ("something",)}, {"state": UserState.FOLDED_IN}]
)
def test_a_user_of_whom_more_is_known_is_ranked_anew(change: dict[str, Any]) -> None:
    """What was seen since never comes back from a list that was made before."""
    ranker, user, shortlists = ranker_of(1), user_of(2), Shortlists()
    first = answer(shortlists, ranker, user, 20)
    later = user._replace(seen=np.concatenate((user.seen, first.rows.astype(np.int32))), **change)

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
