"""What the gate after training compares."""

from dataclasses import replace

import numpy as np
import pytest

from retrain.embeddings import Embeddings
from retrain.evaluation.confidence import Interval, interval
from retrain.gates.quality_gate import Comparison, length_problems, popularity_problems


def random_representations(seed: int = 1) -> Embeddings:
    rng = np.random.default_rng(seed)
    return Embeddings(
        user_factors=rng.normal(size=(30, 8)).astype(np.float32),
        user_biases=rng.normal(size=30).astype(np.float32),
        video_factors=rng.normal(size=(20, 8)).astype(np.float32),
        video_biases=rng.normal(size=20).astype(np.float32),
    )


@pytest.mark.parametrize(("factor", "count"), [(1.0, 0), (5.0, 0), (0.2, 0), (30.0, 1), (0.03, 1)])
def test_exploded_and_collapsed_representations_are_seen(factor: float, count: int) -> None:
    usual = random_representations()
    other = replace(usual, video_factors=np.float32(factor) * usual.video_factors)
    assert len([*length_problems(other, usual, "the live model's")]) == count


def test_users_without_a_vector_do_not_count() -> None:
    usual = random_representations()
    strangers = usual.user_factors.copy()
    strangers[:25] = 0
    assert not [*length_problems(replace(usual, user_factors=strangers), usual, "the live model's")]


def test_the_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    held = [
        found.low <= 0.1 <= found.high
        for found in (interval(rng.normal(0.1, 1, 200), seed=number, resamples=300) for number in range(200))
    ]
    assert 0.9 <= np.mean(held) <= 0.99


def against_popularity(lift: float, either_way: float) -> Comparison:
    """Return a comparison whose figures are shares of popularity's NDCG, .1."""
    gap = Interval(mean=0.1 * lift, low=0.1 * (lift - either_way), high=0.1 * (lift + either_way))
    return Comparison(rival="popularity", ndcg=0.1, difference=gap)


@pytest.mark.parametrize(
    ("lift", "either_way", "of_live", "refused"),
    [
        (0.3, 0.1, 0.3, False),
        (0.2, 0.3, 0.3, False),  # nearer to what the live model was
        (0.1, 0.3, 0.3, True),  # nearer to nothing
        (0.1, 0.05, 0.3, False),  # less than usual, but better
        (0.0, 0.3, None, False),  # too few to tell of a first model
        (0.0, 0.1, None, True),  # a usual lift would have shown
        (-0.6, 0.5, None, True),  # worse, however few
        (-0.6, 0.5, 0.3, True),
    ],
)
def test_model_no_better_than_popularity_is_refused_where_users_can_tell(
    lift: float, either_way: float, of_live: float | None, *, refused: bool
) -> None:
    assert bool([*popularity_problems(against_popularity(lift, either_way), of_live)]) == refused


def test_the_usual_lift_is_hardly_ever_refused_and_its_lack_hardly_ever_missed() -> None:
    """On 500 users as different from one another as those of a real feed."""
    rng = np.random.default_rng(4)
    refused = {
        lift: [
            bool([*popularity_problems(Comparison(rival="popularity", ndcg=0.1, difference=found), 0.4)])
            for found in (
                interval(rng.normal(0.1 * lift, 0.2, 500), seed=number, resamples=200) for number in range(200)
            )
        ]
        for lift in (0.4, 0.0)
    }
    assert np.mean(refused[0.4]) < 0.1
    assert np.mean(refused[0.0]) > 0.9
