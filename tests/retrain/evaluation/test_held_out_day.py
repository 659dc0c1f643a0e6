"""Pages on a held-out day, and what is chosen and measured on them."""

import numpy as np
import pytest
from numpy.typing import NDArray

from modelstore.artefact import RowLists
from retrain.data.prepare import Pairs
from retrain.embeddings import Embeddings
from retrain.evaluation import held_out_day
from retrain.evaluation.held_out_day import PAGE_SIZE, HeldOutDay, choose_weight, evaluate, neighbours

VIDEOS = 50


def pairs(*items: tuple[int, int]) -> Pairs:
    users, videos = zip(*items, strict=True) if items else ((), ())
    return Pairs(users=np.array(users, np.int32), videos=np.array(videos, np.int32))


def held_out(
    targets: Pairs,
    *,
    seen: Pairs | None = None,
    users: int = 3,
    popularity: NDArray[np.float32] | None = None,
    most: int = 99,
) -> HeldOutDay:
    popular = np.zeros(VIDEOS, np.float32) if popularity is None else popularity
    return HeldOutDay.build(targets, (seen or pairs()).lists(users), popular, most_users=most, seed=1)


def representations(video_biases: NDArray[np.float32], users: int = 3) -> Embeddings:
    return Embeddings(
        user_factors=np.zeros((users, 2), np.float32),
        user_biases=np.zeros(users, np.float32),
        video_factors=np.zeros((VIDEOS, 2), np.float32),
        video_biases=video_biases,
    )


def test_pages_are_best_first_without_what_was_seen_and_break_ties_by_row() -> None:
    day = held_out(pairs((0, 5), (2, 7)), seen=pairs((0, 1), (0, 3), (1, 0)))
    biases = np.zeros(VIDEOS, np.float32)
    biases[[3, 30]] = 1, 2
    (pages,) = day.pages(representations(biases).scores)
    assert day.users.tolist() == [0, 2]
    assert pages[0, :4].tolist() == [30, 0, 2, 4]
    assert pages[1, :4].tolist() == [30, 3, 0, 1]


def test_page_of_a_user_who_saw_nearly_all_is_short() -> None:
    day = held_out(pairs((0, 49)), seen=pairs(*((0, video) for video in range(45))))
    page = day.pages(representations(np.zeros(VIDEOS, np.float32)).scores)[0, 0]
    assert page.tolist() == [45, 46, 47, 48, 49] + [-1] * (PAGE_SIZE - 5)


def test_only_users_with_something_to_find_are_judged_and_no_more_than_asked() -> None:
    targets = pairs(*((user, user % VIDEOS) for user in range(0, 200, 2)))
    day = held_out(targets, users=200, most=30)
    assert len(day.users) == 30
    assert (day.users % 2 == 0).all()
    assert [day.relevant[place].tolist() for place in range(30)] == [[user % VIDEOS] for user in day.users]


def test_evaluation_compares_on_the_same_users() -> None:
    biases, popularity = np.zeros(VIDEOS, np.float32), np.arange(VIDEOS, dtype=np.float32)
    biases[5] = 1
    found = evaluate(
        representations(biases).scores, held_out(pairs((0, 5), (1, 5)), popularity=popularity), 0.0, fewest=1
    )
    assert (found.lightfm.ndcg, found.lightfm_prior.ndcg, found.popularity.ndcg) == (1.0, 1.0, 0.0)
    assert found.metrics()["lightfm.ndcg@20"] == 1.0
    assert found.metrics()["evaluation.users"] == 2.0


def test_seen_lists_are_those_of_the_user() -> None:
    assert isinstance(pairs((0, 1), (2, 3), (2, 4)).lists(4), RowLists)
    assert [pairs((0, 1), (2, 3), (2, 4)).lists(4)[user].tolist() for user in range(4)] == [[1], [], [3, 4], []]


@pytest.mark.parametrize(
    ("weight", "near"),
    [
        (0.0, [0.0, 0.125, 0.25]),
        (0.5, [0.25, 0.375, 0.5, 0.6, 0.7]),
        (1.5, [1.0, 1.25, 1.5, 2.0]),
        (0.55, [0.375, 0.5, 0.55, 0.6, 0.7]),
    ],
)
def test_neighbours_of_a_weight_are_the_next_of_the_list(weight: float, near: list[float]) -> None:
    assert neighbours(weight) == near


@pytest.mark.parametrize("start", [0.0, 0.5, 2.0])
def test_weight_of_the_prior_is_the_one_with_the_best_ndcg(start: float) -> None:
    """Users like what scores and popularity say with a weight of a half; where they are few, it is left alone."""
    rng = np.random.default_rng(5)
    users, videos = 400, 200
    scores = rng.normal(size=(users, videos)).astype(np.float32)
    popularity = np.exp(rng.normal(0, 2, videos)).astype(np.float32)
    true = scores + 0.5 * np.log(popularity + 1) + rng.normal(0, 0.5, scores.shape)
    liked = np.sort(np.argsort(-true, axis=1)[:, :5], axis=1)
    pairs = Pairs(users=np.repeat(np.arange(users, dtype=np.int32), 5), videos=liked.ravel().astype(np.int32))
    nothing = RowLists(np.zeros(users + 1, np.int64), np.empty(0, np.int32))
    day = HeldOutDay.build(pairs, nothing, popularity, most_users=users, seed=0)

    def made(users: NDArray[np.int64], out: NDArray[np.float32]) -> None:
        np.copyto(out, scores[users])

    found = day.judge(made, held_out_day.POPULARITY_WEIGHTS)
    assert choose_weight(made, day, start) == held_out_day.POPULARITY_WEIGHTS[np.argmax([one.ndcg for one in found])]
    assert evaluate(made, day, start, fewest=users + 1).next_weight == start
    moved = evaluate(made, day, start, fewest=users)
    assert moved.next_weight == 0.5
    assert moved.with_next_weight == day.judge(made, (0.5,))[0]
    assert moved.lightfm_prior == day.judge(made, (start,))[0]
