"""Each run leaves its report: beside the model, where people look, and also when it was rejected."""

import json
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from structlog.testing import capture_logs

from modelstore.artefact import MANIFEST
from modelstore.registry import Registry
from retrain.__main__ import main
from retrain.errors import Reason, RunError
from retrain.pipeline.write_report import DATA, PAGE, read_report
from retrain.publishing.publish import live_version
from retrain.report.data import LIVE, SERVED, RunReport, from_json
from retrain.scheduling.single_run import run_once
from retrain.settings import RetrainSettings
from servicekit.storage.object_store import FileStore
from tests.retrain.support.stages import quick_settings

pytestmark = pytest.mark.process

MakeSettings: TypeAlias = Callable[..., RetrainSettings]


def night(settings: RetrainSettings, last: date | None = None) -> list[Any]:
    with capture_logs() as logs:
        run_once(settings, last=last, dry_run=False, again=False, force=True)
    return logs


def live_report(models: Path) -> RunReport:
    current = Registry(FileStore(models)).current()
    assert current
    return read_report(FileStore(models), current[0].version)


@pytest.fixture(scope="module")
def folder(feed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a store with two nights' models, and of the last night's report."""
    folder = tmp_path_factory.mktemp("nights")
    settings = quick_settings(feed, folder, retrain_report_path=folder / "where" / "people-look.html")
    night(settings, date(2026, 3, 3))
    night(settings, date(2026, 3, 4))
    return folder


@pytest.fixture
def two_nights(folder: Path) -> RunReport:
    return live_report(folder / "models")


def test_report_tells_the_run_from_data_to_outcome(two_nights: RunReport, folder: Path) -> None:
    assert (two_nights.outcome, two_nights.accepted, two_nights.reasons) == ("live", True, ())
    assert [day.day.day for day in two_nights.days] == [1, 2, 3, 4]
    assert sum(day.events for day in two_nights.days) == two_nights.counts["interactions"] > 10_000
    assert {"prepare", "fit", "evaluate"} <= {stage.name for stage in two_nights.stages}
    served = two_nights.rankings[0]
    assert served.ndcg_low is not None
    assert served.ndcg_high is not None
    assert served.ndcg_low < served.ndcg < served.ndcg_high
    page = (folder / "models" / two_nights.name / PAGE).read_text(encoding="utf-8")
    assert f"{served.ndcg:.4f}" in page
    assert (folder / "where" / "people-look.html").read_text(encoding="utf-8") == page


def test_quality_grows_over_the_epochs_of_the_first_night(two_nights: RunReport, folder: Path) -> None:
    """Every other pass was judged on the last day, which LightFM came to know something of."""
    assert two_nights.parent
    first = read_report(FileStore(folder / "models"), two_nights.parent)
    ndcgs = [one.ndcg for one in first.epochs]
    assert {one.fit for one in first.epochs} == {"earlier", "validated"}
    assert [one.epoch for one in first.epochs] == [2, 4, 6, 8] * 2
    assert max(ndcgs[4:]) > 1.1 * ndcgs[0] > 0
    assert "Over epochs" in (folder / "models" / first.name / PAGE).read_text(encoding="utf-8")


def test_nights_come_from_the_manifests_of_earlier_versions(two_nights: RunReport) -> None:
    assert [one.last_day for one in two_nights.nights] == [date(2026, 3, 3), date(2026, 3, 4)]
    assert [one.version for one in two_nights.nights] == [two_nights.parent, two_nights.name]
    assert all(one.rankings[0].ndcg_low is not None for one in two_nights.nights)


def test_pages_of_the_live_model_stand_beside_the_new_ones(two_nights: RunReport) -> None:
    assert two_nights.showcase
    samples = two_nights.showcase.samples
    assert len(samples) == 6
    assert [sample.known for sample in samples] == sorted(sample.known for sample in samples)
    for sample in samples:
        assert len(sample.new_page) == len(sample.old_page) == 8
        alone = {one.video for one in sample.new_page if one.alone}
        assert alone == {one.video for one in sample.new_page} - {one.video for one in sample.old_page}
        assert all(one.tags and one.author for one in (*sample.new_page, *sample.history))
    assert any(one.liked for sample in samples for one in sample.history)
    assert any(one.alone for sample in samples for one in sample.new_page)
    for name in (LIVE, "lightfm_prior", "popularity"):
        assert sum(band.shares[name] for band in two_nights.showcase.bands) == pytest.approx(1)
    assert sum(band.videos for band in two_nights.showcase.bands) == 240


def test_rejected_run_leaves_a_report_with_its_reasons(settings: MakeSettings, poisoned: Path, tmp_path: Path) -> None:
    chosen = settings(interactions_url=poisoned.as_uri(), retrain_report_path=tmp_path / "report.html")
    with capture_logs(), pytest.raises(RunError) as caught:
        run_once(chosen, last=None, dry_run=False, again=False, force=False)
    assert caught.value.reason is Reason.GATE
    (path,) = (tmp_path / "models").glob(f"rejected/*/{DATA}")
    told = from_json(path.read_bytes())
    assert (told.outcome, told.accepted, told.reasons) == ("rejected", False, (str(caught.value),))
    assert any("with one video" in one.detail and not one.passed for one in told.decisions)
    assert "Rejected" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert read_report(FileStore(tmp_path / "models"), told.name) == told
    assert Registry(FileStore(tmp_path / "models")).versions() == []


def test_report_that_cannot_be_written_does_not_fail_the_run(settings: MakeSettings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    chosen = settings().model_copy(update={"retrain_report_path": tmp_path / "file" / "report.html"})  # gone since
    logs = night(chosen)
    assert [entry["log_level"] for entry in logs if entry["event"] == "report.failed"] == ["warning"]
    assert live_report(tmp_path / "models").accepted


def test_an_odd_manifest_of_an_earlier_night_is_left_out_of_the_report(
    settings: MakeSettings, trained: Path, tmp_path: Path
) -> None:
    """It tells of an infinite quality, which no axis can hold."""
    shutil.copytree(trained / "models", tmp_path / "models")
    (version,) = Registry(FileStore(tmp_path / "models")).versions()
    broken = tmp_path / "models" / "20260302T000000Z-aa-bb"
    broken.mkdir()
    manifest = json.loads((tmp_path / "models" / version / MANIFEST).read_bytes())
    manifest |= {"data_until": "2026-03-02T00:00:00Z", "metrics": {f"{SERVED}.ndcg@20": float("inf")}}
    (broken / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    logs = night(settings(catalogue_url=None))
    assert [entry for entry in logs if entry["event"] == "report.failed"] == []
    assert live_version(Registry(FileStore(tmp_path / "models"))) != version
    assert broken.name not in {night.version for night in live_report(tmp_path / "models").nights}


def test_command_writes_the_page_of_the_live_model_or_of_a_named_run(
    two_nights: RunReport,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MODEL_STORE_URL", (folder / "models").as_uri())
    assert two_nights.parent
    for arguments, name in (([], two_nights.name), ([two_nights.parent], two_nights.parent)):
        assert main(["report", *arguments, "--output", str(tmp_path / "page.html")]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == (tmp_path / "page.html").as_uri()
        assert f"<code>{name}</code>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert main(["report", "20260101T000000Z-none", "--output", str(tmp_path / "none.html")]) == 1
    assert "holds no report of 20260101T000000Z-none" in capsys.readouterr().err
    assert not (tmp_path / "none.html").exists()
