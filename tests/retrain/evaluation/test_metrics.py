"""Quality numbers against an independent implementation."""

import math

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import R, ScoredDoc, nDCG

from modelstore.artefact import RowLists
from retrain.evaluation.metrics import coverage, hits, ndcg, novelty, popularity_share, quality, recall


def csr(lists: list[list[int]]) -> RowLists:
    offsets = np.cumsum([0, *map(len, lists)])
    return RowLists(offsets.astype(np.int64), np.array([one for each in lists for one in each], np.int32))


PAGE = st.permutations(range(30)).map(lambda rows: rows[:20])
RELEVANT = st.sets(st.integers(0, 39), min_size=1).map(sorted)


@given(st.lists(st.tuples(PAGE, RELEVANT), min_size=1, max_size=8))
def test_recall_and_ndcg_equal_ir_measures(users: list[tuple[list[int], list[int]]]) -> None:
    pages = np.array([page for page, _ in users], np.int64)
    relevant = csr([rows for _, rows in users])
    run = [
        ScoredDoc(str(user), str(video), float(-place))
        for user, page in enumerate(pages)
        for place, video in enumerate(page)
    ]
    judged = [ir_measures.Qrel(str(user), str(video), 1) for user, (_, rows) in enumerate(users) for video in rows]
    expected = ir_measures.calc_aggregate([R @ 20, nDCG @ 20], judged, run)
    found = quality(pages, relevant, np.ones(40, np.float32))
    assert found.recall == pytest.approx(expected[R @ 20], abs=1e-9)
    assert found.ndcg == pytest.approx(expected[nDCG @ 20], abs=1e-9)


def test_empty_places_are_no_hits() -> None:
    pages = np.array([[3, -1, -1], [-1, -1, -1]])
    found = hits(pages, csr([[3], [5]]))
    assert found.tolist() == [[True, False, False], [False, False, False]]
    assert recall(found, np.array([1, 1])).tolist() == [1.0, 0.0]
    assert ndcg(found, np.array([1, 1])).tolist() == [1.0, 0.0]
    assert coverage(pages) == 1


def test_lists_of_one_user_are_no_hits_of_another() -> None:
    assert not hits(np.array([[0, 1], [2, 3]]), csr([[2, 3], [0, 1]])).any()


def test_popularity_share_is_that_of_the_top_hundredth() -> None:
    popularity = np.arange(200, dtype=np.float32)
    assert popularity_share(np.array([[199, 198, 197, 0]]), popularity) == 0.5


def test_novelty_is_the_surprise_of_a_place_in_bits() -> None:
    popularity = np.array([5, 1, 1, 1], np.float32)
    assert novelty(np.array([[0, -1]]), popularity) == pytest.approx(1.0)
    assert novelty(np.array([[1, 0]]), popularity) == pytest.approx((1.0 + math.log2(6)) / 2)
    assert novelty(np.array([[-1, -1]]), popularity) == 0.0
