"""The index finds what the scan finds, but for a rare miss, and never what it must not."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsvc.domain.user import COLD, User, UserState
from recsvc.ranking import approximate, inverted_file
from recsvc.ranking.approximate import IndexedRanker, SearchEffort, ranker_of
from recsvc.ranking.exact import ExactRanker, Exclusions, Ranker, RankingQuery

VIDEOS, DIMENSIONS = 12_000, 15


def taste(count: int, seed: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Return vectors around fifty centres, as learnt ones are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((50, DIMENSIONS))
    noise = 0.3 * rng.standard_normal((count, DIMENSIONS))
    return (centres[rng.integers(0, 50, count)] + noise).astype(np.float32)


def user_of(vector: np.ndarray[tuple[int], np.dtype[np.float32]]) -> User:
    return User(state=UserState.TRAINED, vector=vector, bias=0.25, seen=np.empty(0, np.int32))


STATIC = np.random.default_rng(3).standard_normal(VIDEOS).astype(np.float32)
EXACT = ExactRanker(taste(VIDEOS, 1), STATIC)
USERS = taste(300, 2)


@pytest.fixture(scope="module", autouse=True)
def _most_videos_are_listed() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inverted_file, "HEAD", 500)
        patch.setattr(inverted_file, "RISEN", 100)
        yield


@pytest.fixture(scope="module")
def ranker(_most_videos_are_listed: None) -> IndexedRanker:
    made = IndexedRanker.built(EXACT)
    made.tune(USERS[:100])
    return made


def test_it_finds_nearly_all_of_the_best(ranker: IndexedRanker) -> None:
    """Also for users on whom it was not tuned; and with the scores of the scan."""
    hits = []
    for vector in USERS[100:]:
        found, best = (one.top(user_of(vector), 20, Exclusions()) for one in (ranker, EXACT))
        hits.append(len(set(found.rows.tolist()) & set(best.rows.tolist())) / 20)
        assert found.scores.tolist() == EXACT.scores_of(user_of(vector), found.rows).tolist()

    assert ranker.recall >= 0.99
    assert np.mean(hits) >= 0.98


@settings(max_examples=60)
@given(
    seed=st.integers(0, 299),
    count=st.integers(1, 300),
    masked=st.sampled_from([None, 0.0, 0.5, 0.9, 0.999, 1.0]),
    barred=st.sampled_from([0, 50, 500, 11_990]),
)
def test_nothing_barred_comes_and_the_page_is_full(
    ranker: IndexedRanker, seed: int, count: int, masked: float | None, barred: int
) -> None:
    """The best videos are barred, the worst case for an index."""
    rng = np.random.default_rng(seed)
    user = user_of(USERS[seed])
    gone = EXACT.top(user, max(1, barred), Exclusions()).rows if barred else np.empty(0, np.int64)
    mask = None if masked is None else rng.random(VIDEOS) < masked

    found = ranker.top(user, count, Exclusions((gone,), mask))

    allowed = np.ones(VIDEOS, bool) if mask is None else ~mask
    allowed[gone] = False
    assert allowed[found.rows].all()
    assert len(np.unique(found.rows)) == len(found) == min(count, int(allowed.sum()))
    order = sorted(zip(-found.scores, found.rows, strict=True))
    assert [row for _, row in order] == found.rows.tolist()


def test_pages_never_repeat(ranker: IndexedRanker) -> None:
    user, shown = user_of(USERS[0]), np.empty(0, np.int64)
    for _ in range(20):
        shown = np.concatenate((shown, ranker.top(user, 20, Exclusions((shown,))).rows))

    assert len(np.unique(shown)) == 400


def test_strangers_and_batches_are_ranked_the_same(ranker: IndexedRanker) -> None:
    wishes = [RankingQuery(user, 20) for user in (COLD, *map(user_of, USERS[:5]))]

    for wish, ranked in zip(wishes, ranker.top_many(wishes), strict=True):
        assert ranked.rows.tolist() == ranker.top(wish.user, 20, Exclusions()).rows.tolist()


@settings(max_examples=40)
@given(
    seed=st.integers(0, 99),
    count=st.sampled_from([1, 20, 500, 700, 12_000]),
    masked=st.sampled_from([None, 0.5, 0.99]),
    equal=st.integers(0, 1),
)
def test_strangers_get_what_the_scan_gives(
    ranker: IndexedRanker, seed: int, count: int, masked: float | None, equal: int
) -> None:
    """Without an error, and in the same order: also where many scores are equal, and far down."""
    rng = np.random.default_rng(seed)
    fresh = np.round(STATIC) if equal else STATIC
    barred = Exclusions((rng.integers(0, VIDEOS, 300),), None if masked is None else rng.random(VIDEOS) < masked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(approximate, "DRIFT", np.inf)
        found = ranker.with_static(fresh).top(COLD, count, barred)

    best = EXACT.with_static(fresh).top(COLD, count, barred)
    assert found.rows.tolist() == best.rows.tolist()
    assert found.scores.tolist() == best.scores.tolist()


def recall_of(ranker: Ranker, exact: ExactRanker) -> float:
    """Return the recall at 20 for users on whom nothing was tuned; scores must be the scan's."""
    hits = []
    for vector in USERS[100:]:
        found, best = (one.top(user_of(vector), 20, Exclusions()) for one in (ranker, exact))
        hits.append(len(set(found.rows.tolist()) & set(best.rows.tolist())) / 20)
        assert found.scores.tolist() == exact.scores_of(user_of(vector), found.rows).tolist()
    return float(np.mean(hits))


@pytest.mark.parametrize("share", [0.001, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("change", [0.1, 1.0, 5.0])
def test_recall_is_what_is_told_however_popularity_changes(ranker: IndexedRanker, share: float, change: float) -> None:
    """Some videos rise and some fall, in several steps; scores are always those of the fresh popularity."""
    rng = np.random.default_rng(int(1000 * share + change))
    fresh: Ranker = ranker
    for _ in range(3):
        static = EXACT.static.copy()
        moved = rng.random(VIDEOS) < share
        static[moved] += (change * rng.standard_normal(moved.sum())).astype(np.float32)
        fresh = fresh.with_static(static)

        assert fresh.recall >= 0.99
        assert recall_of(fresh, EXACT.with_static(static)) >= fresh.recall - 0.015


def test_lists_that_grew_too_old_are_made_anew(ranker: IndexedRanker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they lose recall at every depth; where new ones would, too, the scan serves."""
    monkeypatch.setattr(ranker, "effort", SearchEffort(8, 0))
    monkeypatch.setattr(approximate, "EFFORTS", (SearchEffort(8, 0),))
    static = np.random.default_rng(9).permutation(STATIC) * 3
    exact = EXACT.with_static(static)
    monkeypatch.setattr(approximate, "DRIFT", np.inf)
    assert recall_of(ranker.with_static(static), exact) < 0.97
    monkeypatch.setattr(approximate, "DRIFT", 0.02)
    assert recall_of(ranker.with_static(static), exact) >= 0.98


def test_what_becomes_popular_is_found_at_once(ranker: IndexedRanker) -> None:
    """The lists are not made anew for a fresher prior."""
    static = STATIC.copy()
    risen = np.argsort(STATIC)[:20]
    static[risen] += 100

    found = ranker.with_static(static).top(user_of(USERS[0]), 20, Exclusions())

    assert set(found.rows.tolist()) == set(risen.tolist())


def test_the_scan_serves_few_videos_and_what_no_index_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ranker_of(EXACT, USERS) is EXACT
    monkeypatch.setattr(approximate, "FROM", 1000)
    assert isinstance(ranker_of(EXACT, USERS), IndexedRanker)
    monkeypatch.setattr(approximate, "RECALL", 1.1)
    assert ranker_of(EXACT, USERS) is EXACT
