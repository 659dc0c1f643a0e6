from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recsvc.admission import admit
from recsvc.artefact import ArtefactError, Model
from tests.recsvc.models import random_model, with_scores


def refusal(model: Model) -> ArtefactError:
    with pytest.raises(ArtefactError) as caught:
        admit(model)
    return caught.value


@pytest.mark.parametrize("model", [random_model(), random_model(users=0), random_model(videos=1), with_scores([2, 1])])
def test_sound_models_are_admitted(model: Model) -> None:
    """Also without viewers, or with fewer videos than a page."""
    assert admit(model).model is model


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"popularity": np.full(60, -0.5, np.float32)}, "negative"),
        (
            {"video_factors": np.full((60, 4), 1e20, np.float32), "user_factors": np.full((12, 4), 1e20, "f4")},
            "overflow",
        ),
        ({"video_biases": np.full(60, 3e38, np.float32)}, "overflow"),
    ],
)
def test_numbers_that_ranking_cannot_bear_are_refused(changes: dict[str, Any], problem: str) -> None:
    error = refusal(replace(random_model(), **changes))

    assert error.reason == "content"
    assert problem in str(error)


def test_a_model_without_videos_is_refused() -> None:
    assert refusal(random_model(videos=0)).reason == "empty"
