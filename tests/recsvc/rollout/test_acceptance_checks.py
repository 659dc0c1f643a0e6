from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from modelstore.artefact import ArtefactError, Model
from recsvc.domain.user import User
from recsvc.model.serving_model import ServingModel
from recsvc.ranking.approximate import IndexedRanker
from recsvc.ranking.exact import ExactRanker, Exclusions, Ranked
from recsvc.rollout.acceptance_checks import check_model, check_page
from tests.recsvc.support.models import random_model, with_scores


def refusal(model: Model) -> ArtefactError:
    with pytest.raises(ArtefactError) as caught:
        check_model(model)
    return caught.value


@pytest.mark.parametrize("model", [random_model(), random_model(users=0), random_model(videos=1), with_scores([2, 1])])
def test_sound_models_are_admitted(model: Model) -> None:
    """Also without users, or with fewer videos than a page."""
    assert check_model(model).model is model


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


class Missing(IndexedRanker):
    """An index that misses the best videos."""

    def __init__(self, exact: ExactRanker, missed: int) -> None:
        self.exact = exact
        self.missed = missed
        self.recall = 1.0

    def scores(self, user: User) -> NDArray[np.float32]:
        return self.exact.scores(user)

    def top(self, user: User, count: int, barred: Exclusions) -> Ranked:
        ranked = self.exact.top(user, count + self.missed, barred)
        return Ranked(ranked.rows[self.missed :], ranked.scores[self.missed :])


@pytest.mark.parametrize("missed", [1, 3])
def test_an_index_may_miss_the_best_video_of_a_user(missed: int) -> None:
    """All others then stand one place higher; also where it missed none when recall was measured."""
    assert sound(with_index(missed))


def test_an_index_that_finds_other_videos_is_refused() -> None:
    with pytest.raises(ArtefactError, match="best scores"):
        sound(with_index(15))


def with_index(missed: int) -> ServingModel:
    serving = ServingModel.of(random_model(5, videos=400))
    assert isinstance(serving.ranker, ExactRanker)
    return replace(serving, ranker=Missing(serving.ranker, missed))


def sound(serving: ServingModel) -> bool:
    for user_id in serving.model.users.ids(np.arange(12)):
        check_page(serving, serving.user(user_id))
    return True
