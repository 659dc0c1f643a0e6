"""What goes live, what is refused, and what serves meanwhile: with a real store in a folder."""

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from modelstore.artefact import MANIFEST, ArtefactError
from modelstore.registry import POINTER, Registry
from recsvc.ranking.filters import VideoFilter
from recsvc.rollout import check_in_subprocess
from recsvc.rollout.load_policy import RETRY_S
from servicekit.storage.object_store import FileStore
from servicekit.telemetry.metrics import Metric
from tests.recsvc.support.models import TRAINED_AT, publish, random_model
from tests.recsvc.support.rollout import Bench
from tests.support.polling import wait_for

pytestmark = pytest.mark.process


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def damage_bytes(folder: Path) -> None:
    data = bytearray((folder / "video_factors.npy").read_bytes())
    data[-1] ^= 1
    (folder / "video_factors.npy").write_bytes(data)


def cut_short(folder: Path) -> None:
    data = (folder / "video_factors.npy").read_bytes()
    (folder / "video_factors.npy").write_bytes(data[:-100])


def remove_file(folder: Path) -> None:
    (folder / "video_factors.npy").unlink()


def change_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_bytes(b"{}")


def remove_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def test_an_empty_store_serves_nothing_and_is_no_error(bench: Bench) -> None:
    assert bench.watcher.poll() is None
    assert (bench.version, bench.went_live, bench.refusals) == ("", [], [])


def test_the_pointers_model_goes_live_and_the_next_one_after_it(bench: Bench) -> None:
    publish(bench.store, random_model(1, version="1"))
    assert bench.watcher.look()
    publish(bench.store, random_model(2, version="2"), activate=False)
    assert not bench.watcher.look()
    assert bench.version == "1"

    Registry(bench.objects).activate("2", at=TRAINED_AT)
    assert bench.watcher.look()
    assert not bench.watcher.look()

    assert bench.went_live == ["1", "2"]
    assert bench.metrics.counts == [(Metric.MODEL_LOADED, ())] * 2


def test_rolling_back_goes_live_as_well(bench: Bench) -> None:
    for version in ("1", "2", "1"):
        publish(bench.store, random_model(int(version), version=version))
        bench.watcher.look()

    assert bench.went_live == ["1", "2", "1"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (damage_bytes, "checksum"),
        (cut_short, "size"),
        (remove_file, "missing"),
        (change_manifest, "checksum"),
        (remove_manifest, "missing"),
    ],
)
def test_a_bad_artefact_is_refused_and_the_old_model_serves(
    bench: Bench, damage: Callable[[Path], None], reason: str
) -> None:
    """One log line, one count, one event; no second try before the pointer moves; the next good one goes live."""
    publish(bench.store, random_model(1, version="1"))
    bench.watcher.poll()
    publish(bench.store, random_model(2, version="2"))
    damage(bench.store / "2")

    with capture_logs() as logs:
        refusals = [bench.watcher.poll() for _ in range(5)]

    assert [error.reason for error in refusals if error] == [reason]
    assert [(line["event"], line["log_level"], line["version"]) for line in logs] == [("model.refused", "error", "2")]
    assert bench.refusals == [(f"reason:{reason}",)]
    assert len(bench.metrics.events) == 1
    assert bench.version == "1"

    publish(bench.store, random_model(3, version="3"))
    bench.watcher.poll()
    assert bench.version == "3"


def test_numbers_gone_wrong_in_training_are_refused(bench: Bench) -> None:
    model = random_model(version="1")
    model.video_factors[5, 2] = np.nan
    publish(bench.store, model)

    error = bench.watcher.poll()

    assert error is not None
    assert (error.reason, str(error)) == ("content", "video_factors.npy holds numbers that are not finite")


def test_an_explicit_look_tries_a_refused_model_again(bench: Bench) -> None:
    publish(bench.store, random_model(version="1"))
    shutil.move(bench.store / "1" / "tags.npy", bench.store / "tags.npy")
    bench.watcher.poll()
    shutil.move(bench.store / "tags.npy", bench.store / "1" / "tags.npy")

    assert bench.watcher.poll() is None
    assert bench.version == ""
    assert bench.watcher.look()
    assert bench.version == "1"


def test_a_broken_pointer_leaves_the_model_serving(bench: Bench) -> None:
    publish(bench.store, random_model(version="1"))
    bench.watcher.poll()
    (bench.store / POINTER).write_bytes(b"garbage")

    with capture_logs() as logs:
        for _ in range(3):
            bench.watcher.poll()

    assert bench.version == "1"
    assert [line["event"] for line in logs] == ["model.refused"]
    assert bench.refusals == [("reason:pointer",)]


def test_an_unreachable_store_leaves_the_model_serving_and_is_told_once(bench: Bench) -> None:
    publish(bench.store, random_model(version="1"))
    bench.watcher.poll()
    bench.objects.down = True
    with capture_logs() as logs:
        for _ in range(3):
            bench.watcher.poll()
        bench.objects.down = False
        bench.watcher.poll()

    assert bench.version == "1"
    assert [line["event"] for line in logs] == ["model.look_failed", "model.look_recovered"]


def test_a_model_that_cannot_be_prepared_in_time_goes_live_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It need not be the model's fault: the alarm is raised once, and after a while it is tried again."""
    publish(bench.store, random_model(1, version="1"))
    bench.watcher.poll()
    publish(bench.store, random_model(2, version="2"))
    with capture_logs() as logs, monkeypatch.context() as patch:
        patch.setattr(check_in_subprocess, "LIMIT_S", 0)
        for _ in range(3):
            bench.watcher.poll()
    assert [line["event"] for line in logs] == ["model.refused"]
    assert bench.refusals == [("reason:unprepared",)]
    assert bench.version == "1"

    later = time.monotonic() + RETRY_S
    monkeypatch.setattr(time, "monotonic", lambda: later)
    bench.watcher.poll()

    assert bench.version == "2"


def test_the_models_age_is_reported_at_every_look(bench: Bench) -> None:
    publish(bench.store, random_model(version="1"))
    bench.watcher.poll()

    assert bench.metrics.gauges == {Metric.MODEL_AGE: 3600.0, Metric.RETRIEVAL_RECALL: 1.0}


def test_a_damaged_local_copy_is_downloaded_again(bench: Bench) -> None:
    publish(bench.store, random_model(version="1"))
    bench.watcher.poll()
    damage_bytes(bench.cache / "1")

    again = Bench(bench.store.parent)
    again.watcher.poll()

    assert (again.version, again.refusals) == ("1", [])


def test_after_a_restart_the_last_model_serves_while_the_store_cannot_be_reached(bench: Bench) -> None:
    publish(bench.store, random_model(version="1"))
    bench.watcher.poll()
    again = Bench(bench.store.parent)
    again.objects.down = True

    again.watcher.start()
    again.watcher.stop()

    assert again.went_live == ["1"]


def test_after_a_restart_the_last_model_serves_while_the_pointers_one_is_bad(bench: Bench) -> None:
    publish(bench.store, random_model(version="1"))
    bench.watcher.poll()
    publish(bench.store, random_model(version="2"))
    damage_bytes(bench.store / "2")
    again = Bench(bench.store.parent)

    again.watcher.start()
    again.watcher.stop()

    assert again.went_live == ["1"]
    assert again.refusals == [("reason:checksum",)]


def test_with_nothing_else_to_serve_a_bad_artefact_ends_the_start(bench: Bench) -> None:
    publish(bench.store, random_model(version="1"))
    damage_bytes(bench.store / "1")

    with pytest.raises(ArtefactError, match=r"video_factors\.npy does not match its checksum"):
        bench.watcher.start()


def test_the_thread_follows_the_pointer(bench: Bench) -> None:
    bench.watcher.start()
    try:
        publish(bench.store, random_model(version="1"))
        wait_for(lambda: bench.version == "1", what="version 1 live")
        publish(bench.store, random_model(version="2"))
        wait_for(lambda: bench.version == "2", what="version 2 live")
    finally:
        bench.watcher.stop()


def test_workers_that_share_a_folder_do_not_take_each_others_models(bench: Bench) -> None:
    """One loads a model slowly while the other moves on, and both find a damaged copy."""
    publish(bench.store, random_model(1, version="1"))
    other = Bench(bench.store.parent)
    for worker in (bench, other):
        worker.watcher.poll()
    publish(bench.store, random_model(2, version="2"))
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(bench.watcher.poll)
        wait_for((bench.cache / "2").exists, timeout_s=60, what="the download")
        damage_bytes(bench.cache / "2")
        publish(bench.store, random_model(3, version="3"))
        assert other.watcher.poll() is None
        assert slow.result() is None
    bench.watcher.poll()

    assert [worker.version for worker in (bench, other)] == ["3", "3"]
    assert [worker.refusals for worker in (bench, other)] == [[], []]
    assert (bench.cache / "3").exists()


def test_a_model_that_is_refused_for_its_numbers_is_not_downloaded_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(bench.store, random_model(1, version="1"))
    bench.watcher.poll()
    publish(bench.store, replace(random_model(2, version="2"), video_biases=np.full(60, 3e38, np.float32)))
    downloads, download = list[str](), FileStore.download

    def counted(store: FileStore, key: str, path: Path) -> None:
        downloads.append(key)
        download(store, key, path)

    monkeypatch.setattr(FileStore, "download", counted)
    bench.watcher.poll()

    assert bench.refusals == [("reason:content",)]
    assert len(downloads) == len(set(downloads)) > 0


def test_local_copies_are_kept_of_two_models(bench: Bench) -> None:
    for version in ("1", "2", "3"):
        publish(bench.store, random_model(int(version), version=version))
        bench.watcher.poll()

    assert sorted(path.name for path in bench.cache.iterdir()) == ["2", "3", "last.json"]

    Bench(bench.store.parent).watcher.poll()
    assert sorted(path.name for path in bench.cache.iterdir()) == ["2", "3", "last.json"], "after a restart as well"


def test_nothing_of_an_earlier_model_stays_in_memory(bench: Bench) -> None:
    for version in ("1", "2", "3"):
        publish(bench.store, random_model(int(version), version=version))
        bench.watcher.poll()
        bench.live.get().masks.blocked(VideoFilter(min_duration_ms=1))

    mapped = Path("/proc/self/maps").read_text()

    assert f"{bench.cache}/3/" in mapped
    assert [version for version in ("1", "2") if f"{bench.cache}/{version}/" in mapped] == []
