"""What the gate after training compares."""

from dataclasses import replace

import numpy as np
import pytest

from retrain.bootstrap import interval
from retrain.quality_gate import length_problems
from retrain.representations import Representations


def random_representations(seed: int = 1) -> Representations:
    rng = np.random.default_rng(seed)
    return Representations(
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


def test_viewers_without_a_vector_do_not_count() -> None:
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
