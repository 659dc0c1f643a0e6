"""What is served of what LightFM has learnt."""

import numpy as np
import pytest

from retrain.data.prepare import Pairs, Positives
from retrain.embeddings import Embeddings
from retrain.training.serving_vectors import served, spread_ratio


def learnt(users: int = 40, videos: int = 30, factors: int = 4) -> Embeddings:
    random = np.random.default_rng(3)
    return Embeddings(
        user_factors=random.normal(size=(users, factors)).astype(np.float32),
        user_biases=np.zeros(users, np.float32),
        video_factors=random.normal(size=(videos, factors)).astype(np.float32),
        video_biases=random.normal(size=videos).astype(np.float32),
    )


def tastes(*triples: tuple[int, int, float]) -> Positives:
    users, videos, weights = zip(*triples, strict=True) if triples else ((), (), ())
    pairs = Pairs(users=np.array(users, np.int32), videos=np.array(videos, np.int32))
    return Positives(pairs=pairs, weights=np.array(weights, np.float32))


ALL = tastes(*((user, (user * 7 + step) % 30, 1.0 + step) for user in range(40) for step in range(3)))


def shown(before: Embeddings, likes: Positives, *, recent: float, bias: float = 1.0) -> Embeddings:
    scale = spread_ratio(before, likes)
    return served(before, likes, scale=scale, recent_share=recent, bias_share=bias)


def test_nothing_changes_with_no_recent_share_and_the_whole_bias() -> None:
    before = learnt()
    after = shown(before, ALL, recent=0.0)
    np.testing.assert_array_equal(after.user_factors, before.user_factors)
    np.testing.assert_array_equal(after.video_biases, before.video_biases)


def test_biases_shrink_to_their_share_and_videos_stay_where_they_are() -> None:
    before = learnt()
    after = shown(before, ALL, recent=0.5, bias=0.3)
    np.testing.assert_allclose(after.video_biases, 0.3 * before.video_biases, rtol=1e-6)
    np.testing.assert_array_equal(after.video_factors, before.video_factors)


def test_only_the_recent_points_to_the_weighted_mean_of_what_was_liked() -> None:
    before = learnt()
    after = shown(before, ALL, recent=1.0)
    for user in (0, 17, 39):
        rows = [(user * 7 + step) % 30 for step in range(3)]
        mean = np.average(before.video_factors[rows], axis=0, weights=(1, 2, 3))
        cosine = mean @ after.user_factors[user] / np.linalg.norm(mean) / np.linalg.norm(after.user_factors[user])
        assert cosine == pytest.approx(1.0, abs=1e-5)


def test_scores_of_what_was_liked_last_are_spread_as_widely_as_those_that_were_learnt() -> None:
    """Else the weight of the prior, and of the other share, would mean another thing in each model."""
    before = learnt()
    after = shown(before, ALL, recent=1.0)
    spread = [np.var(one.user_factors @ one.video_factors.T, axis=1).mean() for one in (before, after)]
    assert spread[1] == pytest.approx(spread[0], rel=1e-4)


def test_half_of_each_lies_in_the_middle() -> None:
    before = learnt()
    recent = shown(before, ALL, recent=1.0).user_factors
    half = shown(before, ALL, recent=0.5).user_factors
    np.testing.assert_allclose(half, (before.user_factors + recent) / 2, rtol=1e-4, atol=1e-5)


def test_users_of_whom_nothing_is_known_stay_strangers() -> None:
    before = learnt()
    before.user_factors[5] = 0
    some = tastes(*((user, user % 30, 1.0) for user in range(40) if user != 6))
    after = shown(before, some, recent=0.5)
    assert not after.user_factors[5].any()
    np.testing.assert_array_equal(after.user_factors[6], before.user_factors[6])


def test_nothing_that_was_liked_leaves_all_vectors() -> None:
    before = learnt()
    after = shown(before, tastes(), recent=0.5, bias=0.3)
    np.testing.assert_array_equal(after.user_factors, before.user_factors)


def test_vectors_of_some_users_are_those_that_they_have_among_all() -> None:
    before, some = learnt(), np.array([3, 5, 31])
    scale = spread_ratio(before, ALL)
    everyone, few = (
        served(one, likes, scale=scale, recent_share=0.5, bias_share=0.3)
        for one, likes in (
            (before, ALL),
            (
                before.of(some),
                tastes(*((user, (user * 7 + step) % 30, 1.0 + step) for user in some.tolist() for step in range(3))),
            ),
        )
    )
    np.testing.assert_array_equal(few.scores(some[1:]), everyone.scores(some[1:]))
