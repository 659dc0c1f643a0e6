from dataclasses import replace

import numpy as np
import pytest

from recsvc.domain.interaction import Interaction, InteractionType
from recsvc.model.fold_in import GAIN, STRANGER_MASS, TRAINED_MASS, FoldIn, scale_of
from tests.recsvc.support.models import csr, random_model

MODEL = random_model(3)
FOLD_IN = FoldIn(MODEL, scale_of(MODEL))


def likes(*names: str) -> list[Interaction]:
    return [Interaction(name, InteractionType.LIKE, 0) for name in names]


def factors(name: str) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    found: np.ndarray[tuple[int], np.dtype[np.float32]] = MODEL.video_factors[MODEL.videos.row(name)]
    return found


def test_a_stranger_is_a_mean_of_what_was_liked_drawn_to_zero() -> None:
    vector = FOLD_IN.fold(likes("v1", "v2"))

    assert vector == pytest.approx(scale_of(MODEL) * (factors("v1") + factors("v2")) / (2 + STRANGER_MASS), rel=1e-5)


def test_a_trained_user_moves_from_the_trained_vector() -> None:
    prior = MODEL.user_factors[4]

    vector = FOLD_IN.fold(likes("v7"), prior)

    assert vector == pytest.approx(
        (TRAINED_MASS * prior + scale_of(MODEL) * factors("v7")) / (TRAINED_MASS + 1), rel=1e-5
    )


def test_a_trained_vector_of_zeros_is_no_knowledge() -> None:
    assert FOLD_IN.fold(likes("v7"), np.zeros(4, np.float32)) == pytest.approx(FOLD_IN.fold(likes("v7")))


def test_what_says_nothing_folds_nobody() -> None:
    """Unknown videos, mere impressions, likes taken back."""
    nothing = [
        *likes("unknown"),
        Interaction("v1", InteractionType.IMPRESSION, 0),
        *likes("v2"),
        Interaction("v2", InteractionType.UNLIKE, 1),
    ]

    assert FOLD_IN.fold(nothing) is None
    assert FOLD_IN.fold([]) is None


def test_what_is_hidden_pushes_away() -> None:
    vector = FOLD_IN.fold([Interaction("v1", InteractionType.HIDE, 0)])

    assert vector is not None
    assert float(vector @ factors("v1")) < 0


def test_a_longer_watch_weighs_more() -> None:
    short, long = (Interaction("v1", InteractionType.WATCH, 0, watch_ms) for watch_ms in (100, 20_000))
    vectors = [FOLD_IN.fold([one]) for one in (short, long)]

    lengths = [0.0 if vector is None else float(np.linalg.norm(vector)) for vector in vectors]
    assert 0 < lengths[0] < lengths[1]


@pytest.mark.parametrize("factor", [0.1, 1, 30])
def test_folded_vectors_are_as_long_as_those_that_training_makes(factor: float) -> None:
    """Whatever lengths a model gives its users, by its loss or learning rate."""
    scaled = replace(MODEL, user_factors=MODEL.user_factors * np.float32(factor))

    assert scale_of(scaled) == pytest.approx(scale_of(MODEL) * factor, rel=1e-4)


def test_a_model_that_knows_nobody_still_folds() -> None:
    empty = replace(MODEL, seen=csr([[]] * 12))

    assert scale_of(empty) == GAIN
