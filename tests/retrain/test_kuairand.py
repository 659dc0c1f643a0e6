"""Quality on real traffic of a short-video feed (KuaiRand-Pure)."""

from pathlib import Path

from structlog.testing import capture_logs

from recsvc.registry import Registry
from retrain.exports import choose_window
from retrain.pipeline import Run, run, utc_now
from retrain.progress import Lines
from retrain.settings import RetrainSettings
from retrain.source import fetch
from servicekit.objectstore import FileStore


def test_lightfm_beats_decayed_popularity_clearly(shared_data: Path, tmp_path: Path) -> None:
    """With a fifth of the epochs and half of the factors, to be quick; on one thread, to be the same each time."""
    data = shared_data / "kuairand"
    settings = RetrainSettings(
        interactions_url=(data / "exports").as_uri(),
        catalogue_url=data.as_uri(),
        model_store_url=(tmp_path / "models").as_uri(),
        retrain_factors=32,
        retrain_epochs=4,
        retrain_day_epochs=1,
        retrain_threads=1,
    )
    exports = FileStore(data / "exports")
    window = choose_window(exports, last=None, length=30, marker_required=False)
    job = Run(
        settings=settings,
        window=window,
        source=fetch(window, exports, FileStore(data), tmp_path),
        registry=Registry(FileStore(tmp_path / "models")),
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
    assert found.viewers > 4000
    assert found.lightfm_prior.ndcg > 1.4 * found.popularity.ndcg
    assert found.lightfm_prior.recall > 1.4 * found.popularity.recall
    assert found.lightfm_prior.coverage > 5 * found.popularity.coverage
