"""Quality on real traffic of a short-video feed (KuaiRand-Pure)."""

from pathlib import Path

import grpc
import numpy as np
from structlog.testing import capture_logs

from modelstore.artefact import read
from modelstore.registry import Registry
from retrain.data.exports import choose_window
from retrain.data.input_files import fetch
from retrain.evaluation.held_out_day import PAGE_SIZE
from retrain.evaluation.live_model import LiveModel
from retrain.evaluation.page_ranking import best_pages
from retrain.pipeline.progress_bar import Lines
from retrain.pipeline.stages import RunContext, run, utc_now
from retrain.settings import RetrainSettings
from servicekit.storage.object_store import FileStore
from tests.recsvc.support.programs import started
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2_grpc as rpc


def test_lightfm_beats_decayed_popularity_clearly_and_is_served_as_it_was_judged(
    shared_data: Path, tmp_path: Path
) -> None:
    """With a fifth of the epochs and half of the factors, to be quick; on one thread, to be the same each time."""
    data = shared_data / "kuairand"
    settings = RetrainSettings(
        interactions_url=(data / "exports").as_uri(),
        catalogue_url=data.as_uri(),
        model_store_url=(tmp_path / "store").as_uri(),
        retrain_factors=32,
        retrain_epochs=4,
        retrain_threads=1,
    )
    exports = FileStore(data / "exports")
    window = choose_window(exports, last=None, length=30, marker_required=False)
    job = RunContext(
        settings=settings,
        window=window,
        source=fetch(window, exports, FileStore(data), tmp_path),
        registry=Registry(FileStore(tmp_path / "store")),
        folder=tmp_path,
        progress=Lines(),
        now=utc_now,
    )
    with capture_logs():
        result = run(job)
    found = result.evaluation
    assert found
    assert result.interactions
    assert result.interactions.counts.broken == {}
    assert found.users > 4000
    assert found.lightfm_prior.ndcg > 1.7 * found.popularity.ndcg
    assert found.lightfm_prior.recall > 1.7 * found.popularity.recall
    assert found.lightfm_prior.coverage > 5 * found.popularity.coverage
    assert {"all", "users.new", "users.light", "users.regular"} <= {part.name for part in found.slices}
    _is_served_as_judged(tmp_path)


def _is_served_as_judged(folder: Path) -> None:
    """Compare pages of a running server with those that evaluation would judge of the same model."""
    registry = Registry(FileStore(folder / "store"))
    current = registry.current()
    assert current
    model = read(registry.fetch(current[0], folder / "fetched"))
    users = np.linspace(0, len(model.users) - 1, 60, dtype=np.int64)
    prior = np.log(model.popularity + np.float32(model.manifest.popularity_floor))
    judged = LiveModel.of(model, model.users, model.videos).representations_of(np.arange(len(model.users)))
    weight = model.manifest.popularity_weight
    (pages,) = best_pages(judged.scores, users, model.seen, prior, (weight,), size=PAGE_SIZE)
    with (
        started(folder) as program,
        grpc.insecure_channel(f"127.0.0.1:{program.port()}") as channel,
    ):
        service = rpc.RecommendationServiceStub(channel)
        for user, page in zip(model.users.ids(users), pages, strict=True):
            reply = service.Recommend(
                pb.RecommendRequest(user_id=user, page_size=PAGE_SIZE), timeout=30, wait_for_ready=True
            )
            assert [video.video_id for video in reply.videos] == model.videos.ids(page)
