import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsvc.ranking.diversity import diversify, pool_size

EAST, NORTH, WEST = (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)


def order(scores: list[float], directions: list[tuple[float, float]], count: int, diversity: float) -> list[int]:
    places = diversify(np.array(scores, np.float32), np.array(directions, np.float32), count, diversity)
    return [int(place) for place in places]


def test_the_next_video_is_unlike_the_first() -> None:
    """By hand: of two equals in direction, the second comes after a worse but different one."""
    assert order([3, 2.9, 1], [EAST, EAST, NORTH], 3, 0.5) == [0, 2, 1]
    assert order([3, 2.9, 1], [EAST, EAST, NORTH], 3, 0.1) == [0, 1, 2]


def test_most_variety_still_begins_with_the_best() -> None:
    assert order([3, 2, 1], [EAST, EAST, WEST], 2, 1.0) == [0, 2]


def test_nothing_to_choose_from_is_an_empty_page() -> None:
    assert diversify(np.empty(0, np.float32), np.empty((0, 2), np.float32), 5, 0.5).tolist() == []


@given(st.data())
def test_each_step_takes_the_greatest_marginal_relevance(data: st.DataObject) -> None:
    """Against the definition, step by step; each video once."""
    n = data.draw(st.integers(1, 12))
    scores = sorted(data.draw(st.lists(st.integers(-5, 5), min_size=n, max_size=n)), reverse=True)
    angles = data.draw(st.lists(st.integers(0, 7), min_size=n, max_size=n))
    directions = [(float(np.cos(angle)), float(np.sin(angle))) for angle in angles]
    diversity = data.draw(st.sampled_from([0.1, 0.3, 0.7, 1.0]))

    chosen = order([float(score) for score in scores], directions, n, diversity)

    span = scores[0] - scores[-1]
    worth = [(score - scores[-1]) / span if span else 1.0 for score in scores]
    assert sorted(chosen) == list(range(n))
    for step in range(1, n):
        likeness = {
            place: max(float(np.dot(directions[place], directions[before])) for before in chosen[:step])
            for place in chosen[step:]
        }
        gains = {place: (1 - diversity) * worth[place] - diversity * likeness[place] for place in likeness}
        assert gains[chosen[step]] == pytest.approx(max(gains.values()), abs=1e-5)


@pytest.mark.parametrize("count", [1, 20, 500, 10_000])
def test_a_page_is_chosen_from_more_than_it_holds(count: int) -> None:
    assert pool_size(count) > count
