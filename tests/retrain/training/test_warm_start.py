"""Nights that go on from the one before."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import pytest
from structlog.testing import capture_logs

import retrain.pipeline.fits
from modelstore.registry import Registry
from retrain.data.prepare import Positives
from retrain.errors import Reason, RunError
from retrain.gates.quality_gate import Verdict, judge
from retrain.pipeline.stages import Result, RunContext, run
from retrain.publishing.publish import Outcome
from retrain.report.data import BASELINE, LIVE, SERVED
from retrain.settings import RetrainSettings
from retrain.training.checkpoint_store import FOLDER, CheckpointStore
from retrain.training.lightfm_trainer import Trainer
from retrain.training.warm_start import Compatibility, WarmStart, choose
from servicekit.storage.object_store import open_store
from tests.retrain.support.stages import job

SUMS_LEFT: Final = np.float32(1e-4)

MakeSettings: TypeAlias = Callable[..., RetrainSettings]
Logs: TypeAlias = list[Any]


def night(settings: RetrainSettings, folder: Path, day: int, **changes: Any) -> RunContext:
    """Return the run of a day of March 2026, as the job would start it."""
    plain = job(settings, folder, last=date(2026, 3, day))
    models = open_store(settings.model_store_url)
    checkpoints = CheckpointStore(models, settings.signing_key())
    start = choose(checkpoints, Registry(models).versions(), Compatibility.of(settings, plain.window))
    return replace(plain, checkpoints=checkpoints, start=start, **changes)


def done(work: RunContext) -> tuple[Result, Logs]:
    with capture_logs() as logs:
        result = run(work)
    return result, logs


def fits(logs: Logs) -> list[str]:
    return [entry["fit"] for entry in logs if entry["event"] == "fit.done"]


def test_night_after_learns_the_day_in_halves_and_is_judged_between_them(
    settings: MakeSettings, tmp_path: Path
) -> None:
    """What was published the night before is judged on the new day, what is published now on the day's second half."""
    first, logs = done(night(settings(), tmp_path / "1", 3))
    assert fits(logs) == ["earlier", "validated", "final"]
    work = night(settings(), tmp_path / "2", 4)
    assert work.start.is_wanted
    assert first.publication.version in work.start.reason
    second, logs = done(work)
    assert fits(logs) == ["half", "final"]
    assert second.evaluation
    assert second.evaluation.lightfm_prior.ndcg > 1.05 * second.evaluation.popularity.ndcg
    assert work.observer.findings.verdict
    compared = {found.rival: found for found in work.observer.findings.verdict.comparisons}
    assert compared.keys() == {"popularity", "live", "popularity.half", "live.half"}
    assert compared["live"].difference.mean == pytest.approx(0, abs=1e-4)
    assert compared["live.half"].difference.mean > 0.005
    store = CheckpointStore(open_store(settings().model_store_url))
    assert store.versions() == [second.publication.version, first.publication.version]
    assert store.describe(second.publication.version).full_fit_until == work.window.until - timedelta(days=1)


def test_missed_night_is_caught_up(settings: MakeSettings, tmp_path: Path) -> None:
    """The day between is learnt from before the last one is judged."""
    done(night(settings(), tmp_path / "1", 2))
    result, logs = done(night(settings(), tmp_path / "2", 4))
    assert fits(logs) == ["validated", "half", "final"]
    assert result.evaluation


def test_same_night_again_does_not_judge_a_model_on_what_it_has_learnt(settings: MakeSettings, tmp_path: Path) -> None:
    done(night(settings(), tmp_path / "1", 3))
    start = night(settings(), tmp_path / "2", 3).start
    assert start == WarmStart(checkpoint=None, is_wanted=False, reason=start.reason)
    assert "has learnt from the day that is held out, 2026-03-03" in start.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"retrain_warm_start": False}, "a full fit was asked for"),
        ({"retrain_factors": 8}, "trained with other settings"),
        ({"retrain_learning_rate": 0.1}, "trained with other settings"),
        ({"retrain_full_fit_days": 1}, "the last full fit was 1 days of data ago"),
    ],
)
def test_full_fit_says_why(settings: MakeSettings, tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    done(night(settings(), tmp_path / "1", 3))
    work = night(settings(**changes), tmp_path / "2", 4)
    assert not work.start.is_wanted
    assert reason in work.start.reason


def test_without_any_checkpoint_the_fit_is_full(settings: MakeSettings, tmp_path: Path) -> None:
    assert "no checkpoint" in night(settings(), tmp_path / "1", 4).start.reason


def test_checkpoint_of_a_model_that_is_gone_does_not_count(settings: MakeSettings, tmp_path: Path) -> None:
    first, _ = done(night(settings(), tmp_path / "1", 3))
    (tmp_path / "models" / first.publication.version / "manifest.json").unlink()
    assert "is gone" in night(settings(), tmp_path / "2", 4).start.reason


def test_broken_checkpoint_is_not_gone_on_from(settings: MakeSettings, tmp_path: Path) -> None:
    """A byte changed where only its checksum shows it: the night makes a full fit and says why."""
    first, _ = done(night(settings(), tmp_path / "1", 3))
    path = tmp_path / "models" / FOLDER / first.publication.version / "item_biases.npy"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    result, logs = done(night(settings(), tmp_path / "2", 4))
    assert fits(logs) == ["earlier", "validated", "half", "final"]
    assert [entry["problem"] for entry in logs if entry["event"] == "warm_start.refused"] == [
        "item_biases.npy is not what was written"
    ]
    assert result.evaluation


@pytest.mark.parametrize("full_fit_days", [7, 1])
def test_what_the_gate_refuses_is_fitted_in_the_other_way(
    settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_fit_days: int
) -> None:
    """A warm start that is refused makes way for a full fit, and a full fit for a warm start."""
    done(night(settings(), tmp_path / "1", 3))
    problems = ["worse"]

    def refuse_first(*arguments: Any, **named: Any) -> Verdict:
        verdict = judge(*arguments, **named)
        return replace(verdict, problems=(problems.pop(),)) if problems else verdict

    monkeypatch.setattr("retrain.pipeline.train.judge", refuse_first)
    work = night(settings(retrain_full_fit_days=full_fit_days), tmp_path / "2", 4)
    result, logs = done(work)
    assert [entry["warm"] for entry in logs if entry["event"] == "fit.refused"] == [full_fit_days == 7]
    assert fits(logs) == ["earlier", "validated", "half", "final"]  # the last two, or all, in the other way
    saved = CheckpointStore(open_store(work.settings.model_store_url)).describe(result.publication.version)
    assert saved.full_fit_until == work.window.until, "a full fit that was refused would be tried each night"


@pytest.mark.parametrize("full_fit_days", [1, 7])
def test_weight_of_the_prior_follows_the_days(
    settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_fit_days: int
) -> None:
    """One that is much too large is judged as it is, and the model is published with one that suits the day.

    A full fit begins with that of the night before as well, and moves it where a hundred users tell.
    """
    if full_fit_days > 1:
        monkeypatch.setattr("retrain.pipeline.train.MIN_USERS_TO_MOVE", 100)
    first, _ = done(night(settings(), tmp_path / "1", 3))
    models = open_store(settings().model_store_url)
    store, registry = CheckpointStore(models), Registry(models)
    saved = store.load(first.publication.version)
    store.save(replace(saved, description=saved.description.model_copy(update={"popularity_weight": 2.0})))
    work = night(settings(retrain_full_fit_days=full_fit_days), tmp_path / "2", 4, force=True)
    assert work.start.is_wanted == (full_fit_days > 1)
    result, logs = done(work)
    (moved,) = (entry for entry in logs if entry["event"] == "popularity_weight.moved")
    assert moved["before"] == 2.0
    assert moved["after"] < 1.5
    assert registry.manifest(result.publication.version).popularity_weight == moved["after"]
    assert store.describe(result.publication.version).popularity_weight == moved["after"]


def test_pages_of_what_is_refused_are_shown_as_well(
    settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report of a night that published nothing has the pages that the gate saw."""
    done(night(settings(), tmp_path / "1", 3))
    monkeypatch.setattr(
        "retrain.pipeline.train.judge", lambda *given, **named: replace(judge(*given, **named), problems=("worse",))
    )
    work = night(settings(), tmp_path / "2", 4)
    with pytest.raises(RunError) as refused:
        done(work)
    assert refused.value.reason is Reason.QUALITY
    assert work.observer.findings.showcase
    assert all(band.shares.keys() == {SERVED, BASELINE, LIVE} for band in work.observer.findings.showcase.bands)
    assert any(
        sample.history and sample.new_page and sample.old_page for sample in work.observer.findings.showcase.samples
    )


def test_warm_step_that_does_harm_makes_way_for_a_full_fit(settings: MakeSettings, tmp_path: Path) -> None:
    """The sums of an optimiser that has lost them make it leap: as good as the live model until it learns."""
    first, _ = done(night(settings(), tmp_path / "1", 3))
    store = CheckpointStore(open_store(settings().model_store_url))
    state = store.load(first.publication.version)
    lost = {name: array * (SUMS_LEFT if "gradients" in name else 1) for name, array in state.state.arrays.items()}
    store.save(replace(state, state=replace(state.state, arrays=lost)))
    result, logs = done(night(settings(), tmp_path / "2", 4))
    (refused,) = [entry for entry in logs if entry["event"] == "fit.refused"]
    assert refused["warm"]
    assert "worse than the live model by more than 2%" in refused["problem"]
    assert "on the second half of the last day" in refused["problem"]
    assert fits(logs) == ["half", "earlier", "validated", "half", "final"]
    assert result.publication.outcome is Outcome.LIVE


@pytest.mark.parametrize(("times_writing", "kept"), [(0.0, ["earlier", "validated", "final"]), (1e12, [])])
def test_only_fits_that_took_much_longer_than_writing_them_are_kept(
    settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times_writing: float, kept: list[str]
) -> None:
    titles: list[str] = []
    monkeypatch.setattr(retrain.pipeline.fits, "KEPT_FROM", times_writing)
    monkeypatch.setattr(retrain.pipeline.fits.Fits, "_keep", lambda _, title: titles.append(title))
    done(night(settings(), tmp_path / "1", 3))
    assert titles == kept


def test_run_is_published_even_if_its_checkpoint_cannot_be_saved(
    settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = night(settings(), tmp_path / "1", 4)

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(CheckpointStore, "save", full)
    result, logs = done(work)
    assert Registry(open_store(settings().model_store_url)).versions() == [result.publication.version]
    assert [entry["problem"] for entry in logs if entry["event"] == "checkpoint.not_saved"] == [
        "no space left on device"
    ]


def test_only_what_earlier_nights_learnt_is_replayed(
    settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full fit makes its passes over all and over its last two days; the night after goes on in two halves."""
    shares: list[tuple[int, float]] = []
    fit = Trainer.fit

    def noting(self: Trainer, positives: Positives, epochs: Iterable[int], **further: Any) -> None:
        passes = count()
        fit(self, positives, (epoch for epoch, _ in zip(epochs, passes, strict=False)), **further)
        shares.append((next(passes), further["replayed"]))

    monkeypatch.setattr(Trainer, "fit", noting)
    for day in (3, 4):
        done(night(settings(retrain_replayed_share=0.1), tmp_path / str(day), day))
    assert shares == [(8, 0.0), (8, 0.0), (8, 0.0), (12, 0.1), (12, 0.1)]


def test_some_epochs_are_judged_and_the_last_one_always(
    settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrain.pipeline.fits.LOOKS", 3)
    work = night(settings(), tmp_path / "1", 3)
    assert work.settings.retrain_epochs == 8
    done(work)
    assert [(one.fit, one.epoch) for one in work.observer.findings.epochs] == [
        (fit, epoch) for fit in ("earlier", "validated") for epoch in (2, 5, 8)
    ]
