import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsvc.domain.user import COLD, User, UserState
from recsvc.ranking.exact import ExactRanker, Exclusions, top_rows
from tests.recsvc.support.models import brute_force, random_model

SCORES = st.lists(st.sampled_from([-np.inf, -3.0, 0.0, 0.5, 1.0, 3.4e38, -3.4e38]), max_size=300).map(
    lambda values: np.array(values, np.float32)
)


def by_sorting(scores: NDArray[np.float32], count: int) -> list[int]:
    """Return the best rows by sorting them all by score, then row."""
    rows = [row for row in range(len(scores)) if scores[row] > -np.inf]
    return sorted(rows, key=lambda row: (-scores[row], row))[:count]


@given(SCORES, st.integers(1, 40))
def test_top_rows_equal_a_full_sort(scores: NDArray[np.float32], count: int) -> None:
    """Also where equal scores straddle the cut, and where there are fewer than asked for."""
    assert top_rows(scores, count).tolist() == by_sorting(scores, count)


@pytest.mark.parametrize("size", [1, 20, 21, 167, 168, 169, 1000, 20_011])
@pytest.mark.parametrize("distinct", [1, 5, 10**6])
def test_top_rows_of_many_scores(size: int, distinct: int) -> None:
    scores = np.random.default_rng(size).integers(0, distinct, size).astype(np.float32)

    assert top_rows(scores, 21).tolist() == by_sorting(scores, 21)


@given(st.data())
def test_barred_videos_are_never_returned_and_the_page_is_still_full(data: st.DataObject) -> None:
    model = random_model(data.draw(st.integers(0, 20)))
    rows = st.lists(st.integers(0, 59), max_size=60).map(lambda rows: np.array(rows, np.int64))
    seen, excluded = data.draw(rows), data.draw(rows)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=60, max_size=60)))
    count = data.draw(st.integers(1, 61))
    static = model.video_biases + model.prior()
    user = data.draw(st.sampled_from([COLD, *(trained(model.user_factors[row]) for row in range(3))]))

    ranked = ExactRanker(model.video_factors, static).top(user, count, Exclusions((seen, excluded), mask))

    left = set(range(60)) - set(seen.tolist()) - set(excluded.tolist()) - set(np.flatnonzero(mask).tolist())
    assert set(ranked.rows.tolist()) <= left
    assert len(ranked) == min(count, len(left))


def trained(vector: NDArray[np.float32], bias: float = 0.25) -> User:
    return User(state=UserState.TRAINED, vector=vector, bias=bias, seen=np.empty(0, np.int32))


@pytest.mark.parametrize("user_id", ["u0", "u7", "nobody"])
def test_ranking_follows_the_definition_of_the_score(user_id: str) -> None:
    model = random_model(3)
    row = model.users.row(user_id)
    user = COLD if row < 0 else trained(model.user_factors[row], float(model.user_biases[row]))

    ranked = ExactRanker(model.video_factors, model.video_biases + model.prior()).top(user, 60, Exclusions())

    scores, bias = brute_force(model, user_id)
    np.testing.assert_allclose(ranked.scores, scores[ranked.rows] + bias, rtol=1e-6, atol=1e-6)
    assert sorted(ranked.rows.tolist()) == list(range(60))


def test_known_answer() -> None:
    """A user who likes the first dimension and dislikes the second."""
    factors = np.array([[1, 0], [0, 1], [1, 1], [2, 0]], np.float32)
    ranker = ExactRanker(factors, np.array([0, 0.5, 3, 0], np.float32))

    ranked = ranker.top(trained(np.array([1, -1], np.float32), bias=10), 3, Exclusions((np.array([2]),)))

    assert ranked.rows.tolist() == [3, 0, 1]
    assert ranked.scores.tolist() == [12.0, 11.0, 9.5]


def test_a_cold_user_does_not_change_the_model() -> None:
    """Scores of cold users are a copy: barring is done in place."""
    ranker = ExactRanker(np.zeros((2, 1), np.float32), np.array([1, 2], np.float32))

    assert ranker.top(COLD, 2, Exclusions((np.array([1]),))).rows.tolist() == [0]
    assert ranker.top(COLD, 2, Exclusions()).rows.tolist() == [1, 0]
