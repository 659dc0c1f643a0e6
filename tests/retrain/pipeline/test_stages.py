"""A whole run on simulated exports, in this process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from structlog.testing import capture_logs

from modelstore.artefact import Model, read
from modelstore.registry import Registry
from retrain.errors import Reason, RunError
from retrain.hyperparameters import Hyperparameters
from retrain.pipeline import fits
from retrain.pipeline.console_summary import quality_table
from retrain.pipeline.stages import Result, run
from retrain.publishing.publish import Outcome
from retrain.settings import RetrainSettings
from retrain.training.lightfm_trainer import Trainer
from servicekit.storage.object_store import open_store
from tests.retrain.support.feeds import row, write_day, write_history
from tests.retrain.support.stages import NOW, job, quick_settings

MakeSettings: TypeAlias = Callable[..., RetrainSettings]


def live_model(settings: RetrainSettings, cache: Path) -> Model:
    registry = Registry(open_store(settings.model_store_url))
    current = registry.current()
    assert current
    return read(registry.fetch(current[0], cache))


@pytest.fixture(scope="module")
def done(feed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Model]:
    folder = tmp_path_factory.mktemp("done")
    settings = quick_settings(feed, folder)
    with capture_logs():
        return run(job(settings, folder / "scratch")), live_model(settings, folder / "cache")


def test_learnt_taste_beats_popularity_clearly(done: tuple[Result, Model]) -> None:
    evaluation = done[0].evaluation
    assert evaluation
    assert evaluation.users > 300
    assert evaluation.lightfm_prior.ndcg > 1.25 * evaluation.popularity.ndcg
    assert evaluation.lightfm_prior.recall > 1.25 * evaluation.popularity.recall
    assert evaluation.lightfm_prior.coverage > evaluation.popularity.coverage
    assert "decayed popularity" in quality_table(evaluation)


def test_artefact_holds_everybody_and_everything(done: tuple[Result, Model]) -> None:
    result, model = done
    assert result.interactions
    counts = result.interactions.counts
    assert (len(model.users), len(model.videos)) == (counts.users, counts.videos) == (400, 240)
    assert model.manifest.data_until == datetime(2026, 3, 5, tzinfo=UTC)
    assert model.manifest.trained_at == NOW
    assert model.manifest.metrics["lightfm_prior.ndcg@20"] > model.manifest.metrics["popularity.ndcg@20"] > 0
    assert model.manifest.interaction_count == counts.events
    assert (model.catalogue.durations_ms > 0).all()
    assert (model.catalogue.tag_rows.lengths() > 0).all()
    assert (model.seen.lengths() > 0).all()


def test_served_scores_equal_the_prediction_of_lightfm(
    settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read back from the store scores as LightFM itself does, for every user and video."""
    trainers: list[Trainer] = []

    class Spy(Trainer):
        def __init__(self, parameters: Hyperparameters) -> None:
            super().__init__(parameters)
            trainers.append(self)

    monkeypatch.setattr(fits, "Trainer", Spy)
    plain = settings(retrain_recent_share=0.0, retrain_bias_share=1.0)
    with capture_logs():
        run(job(plain, tmp_path / "scratch"))
    model = live_model(plain, tmp_path / "cache")
    (trainer,) = trainers
    trained_users = np.flatnonzero(model.user_factors.any(axis=1))
    trained_videos = np.flatnonzero(model.video_factors.any(axis=1))
    assert len(trained_users) == trainer.model.user_embeddings.shape[0]
    assert len(trained_videos) == trainer.model.item_embeddings.shape[0] > 200
    for local, user in enumerate(trained_users.tolist()):
        predicted = trainer.model.predict(local, np.arange(len(trained_videos)))
        np.testing.assert_allclose(model.lightfm_scores(user)[trained_videos], predicted, rtol=1e-4, atol=1e-5)


def test_same_input_is_not_trained_on_twice(settings: MakeSettings, tmp_path: Path) -> None:
    with capture_logs() as logs:
        first = run(job(settings(), tmp_path / "1"))
        again = run(job(settings(retrain_threads=2), tmp_path / "2"))
        other = run(job(settings(retrain_epochs=2), tmp_path / "3", force=True))
    assert again.publication.version == first.publication.version
    assert again.publication.outcome is Outcome.ALREADY_LIVE
    assert again.interactions is None
    assert other.publication.version != first.publication.version
    assert [entry["fit"] for entry in logs if entry["event"] == "fit.done"] == ["earlier", "validated", "final"] * 2


def test_repeated_run_on_one_thread_comes_to_the_same_bits(settings: MakeSettings, tmp_path: Path) -> None:
    with capture_logs():
        first = run(job(settings(), tmp_path / "1"))
        again = run(job(settings(), tmp_path / "2"), again=True)
    assert again.interactions
    assert again.publication.version == first.publication.version


def test_evaluation_knows_nothing_of_the_last_day(settings: MakeSettings, feed: Path, tmp_path: Path) -> None:
    """Other rows on the last day do not change what popularity shows on its pages."""
    folder = tmp_path / "exports"
    for day in ("2026-03-01", "2026-03-02", "2026-03-03"):
        (folder / day).mkdir(parents=True)
        (folder / day / "a.parquet").symlink_to(feed / "exports" / day / "interactions-0000.parquet")
    pages = set()
    for kind in ("like", "share"):
        liked = [
            row(f"sim-u{user:07}", f"sim-v{video:07}", kind, 0, "2026-03-04T10:00:00Z")
            for user in range(9)
            for video in range(240)
        ]
        write_day(folder, "2026-03-04", liked[:: 1 if kind == "like" else 7])
        chosen = settings(interactions_url=folder.as_uri())
        with capture_logs():
            found = run(job(chosen, tmp_path / kind, force=True), again=True).evaluation
        assert found
        pages.add(found.popularity.coverage)
    assert len(pages) == 1


@contextmanager
def days(folder: Path, *kinds: str) -> Iterator[str]:
    """Yield the URL of exports whose days hold one kind of interaction each."""
    for number, kind in enumerate(kinds, 1):
        rows = [row(f"u{user}", f"v{user}{number}", kind, 0, f"2026-03-0{number}T10:00:00Z") for user in range(9)]
        write_day(folder / "exports", f"2026-03-0{number}", rows)
    yield (folder / "exports").as_uri()


@pytest.mark.parametrize("kinds", [("like",), ("like", "like"), ("impression", "like"), ("like", "impression")])
def test_few_days_still_give_a_model(settings: MakeSettings, tmp_path: Path, kinds: tuple[str, ...]) -> None:
    with days(tmp_path, *kinds) as url, capture_logs():
        result = run(job(settings(interactions_url=url, catalogue_url=None), tmp_path / "scratch"))
    assert result.publication.outcome is Outcome.LIVE
    assert (result.evaluation is not None) == (kinds == ("like", "like"))


def test_histories_before_the_first_day_are_learnt_from_in_full(settings: MakeSettings, tmp_path: Path) -> None:
    """They are learnt from before the first day is, which is judged, and not as what that day adds."""
    histories = [
        {
            "userId": f"u{user}",
            "lastWatchedAt": datetime(2026, 2, 27, tzinfo=UTC),
            "watched": [f"v{user}1"],
            "liked": [],
            "longWatched": [],
        }
        for user in range(9)
    ]
    write_history(tmp_path, histories)
    with days(tmp_path, "like") as url, capture_logs() as logs:
        run(job(settings(interactions_url=url, catalogue_url=tmp_path.as_uri()), tmp_path / "scratch"))
    assert [entry["fit"] for entry in logs if entry["event"] == "fit.done"] == ["earlier", "validated", "final"]


def test_exports_without_a_positive_are_refused(settings: MakeSettings, tmp_path: Path) -> None:
    with days(tmp_path, "impression", "impression") as url, pytest.raises(RunError, match="no positive") as caught:
        run(job(settings(interactions_url=url, catalogue_url=None), tmp_path / "scratch"))
    assert caught.value.reason is Reason.DATA
    assert not (tmp_path / "models").exists()


def test_unreadable_file_is_named_and_nothing_is_published(settings: MakeSettings, tmp_path: Path) -> None:
    path = write_day(tmp_path / "exports", "2026-03-01", [row(f"u{user}", "v", "like", user) for user in range(999)])
    data = bytearray(path.read_bytes())
    data[4:400] = b"\xff" * 396
    path.write_bytes(data)
    chosen = settings(interactions_url=(tmp_path / "exports").as_uri(), catalogue_url=None)
    with pytest.raises(RunError, match=r"^2026-03-01/interactions-0000.parquet cannot be read: ") as caught:
        run(job(chosen, tmp_path / "scratch"))
    assert caught.value.reason is Reason.SCHEMA
    assert not (tmp_path / "models").exists()


def test_earlier_day_is_trained_as_if_later_ones_did_not_exist(settings: MakeSettings, tmp_path: Path) -> None:
    with capture_logs():
        run(job(settings(), tmp_path / "scratch", last=date(2026, 3, 3)))
    model = live_model(settings(), tmp_path / "cache")
    assert model.manifest.data_until == NOW.replace(hour=0) - timedelta(days=1)


def test_poisoned_last_day_is_refused_unless_forced(settings: MakeSettings, poisoned: Path, tmp_path: Path) -> None:
    """A day whose clicks all go to one video leaves the store untouched; force trains on it."""
    chosen = settings(interactions_url=poisoned.as_uri())
    with capture_logs(), pytest.raises(RunError, match=r"100% of .* are with one video") as caught:
        run(job(chosen, tmp_path / "1"))
    assert caught.value.reason is Reason.GATE
    assert not (tmp_path / "models").exists()
    with capture_logs():
        assert run(job(chosen, tmp_path / "2", force=True)).publication.outcome is Outcome.LIVE
