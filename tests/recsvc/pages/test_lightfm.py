"""Serving is equal to the training library's own prediction."""

from dataclasses import replace

import numpy as np
import pytest
from lightfm import LightFM
from scipy.sparse import coo_matrix

from modelstore.artefact import Model
from recsvc.model.live_model import LiveModel
from recsvc.model.serving_model import ServingModel
from recsvc.pages.recommender import FeedQuery, Recommender
from tests.recsvc.support.directories import directory
from tests.recsvc.support.models import csr, random_model

USERS, VIDEOS, DIMENSIONS = 12, 60, 4


@pytest.fixture(scope="module")
def fitted() -> LightFM:
    model = LightFM(no_components=DIMENSIONS, loss="warp", random_state=11)
    rng = np.random.default_rng(11)
    watched = coo_matrix((rng.random((USERS, VIDEOS)) < 0.2).astype(np.float32))
    return model.fit(watched, epochs=5, num_threads=1)


@pytest.fixture(scope="module")
def exported(fitted: LightFM) -> Model:
    video_biases, video_factors = fitted.get_item_representations()
    user_biases, user_factors = fitted.get_user_representations()
    model = random_model(users=USERS, videos=VIDEOS, dimensions=DIMENSIONS)
    return replace(
        model,
        manifest=model.manifest.model_copy(update={"popularity_weight": 0.0}),
        user_factors=user_factors,
        user_biases=user_biases,
        video_factors=video_factors,
        video_biases=video_biases,
        seen=csr([[] for _ in range(USERS)]),
    )


def test_scores_equal_predict(fitted: LightFM, exported: Model) -> None:
    for row in range(USERS):
        expected = fitted.predict(row, np.arange(VIDEOS))
        np.testing.assert_allclose(exported.lightfm_scores(row), expected, rtol=1e-5, atol=1e-6)


def test_pages_are_predict_sorted(fitted: LightFM, exported: Model) -> None:
    live = LiveModel(retry_after_s=1)
    live.swap(ServingModel.of(exported))
    for row, user_id in enumerate(exported.users.ids(np.arange(USERS))):
        scores = fitted.predict(row, np.arange(VIDEOS))
        best = np.argsort(-scores, kind="stable")[:20]

        page = Recommender(live, directory()).recommend(FeedQuery(user_id=user_id, page_size=20, digest=bytes(8)))

        assert page.video_ids == exported.videos.ids(best)
        np.testing.assert_allclose(page.scores, scores[best], rtol=1e-5, atol=1e-6)
