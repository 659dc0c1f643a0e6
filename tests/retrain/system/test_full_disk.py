"""Runs on disks that are really full: small ones of memory, mounted where that is allowed."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from structlog.testing import capture_logs

from modelstore.artefact import Manifest
from modelstore.registry import Registry
from retrain.errors import Reason, RunError
from retrain.pipeline import stages
from retrain.publishing.publish import write_verified
from retrain.scheduling.single_run import run_once
from retrain.settings import RetrainSettings
from servicekit.storage.object_store import FileStore
from tests.retrain.support.processes import live

MakeSettings: TypeAlias = Callable[..., RetrainSettings]
KIB = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Disk:
    """A disk whose size can be changed."""

    folder: Path

    def resize(self, size: float) -> None:
        """Give it so many bytes."""
        subprocess.run(["mount", "-o", f"remount,size={size / KIB:.0f}k", self.folder], check=True, capture_output=True)

    def leave(self, size: float) -> None:
        """Give it as much as is taken, and so many bytes."""
        self.resize(shutil.disk_usage(self.folder).used + size)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Return an empty disk of 16 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    yield Disk(folder=folder)
    subprocess.run(["umount", "--lazy", folder], check=True)


def run(settings: RetrainSettings) -> list[Any]:
    with capture_logs() as logs:
        run_once(settings, last=None, dry_run=False, again=False, force=False)
    return logs


def test_a_full_folder_for_scratch_files(
    disk: Disk, settings: MakeSettings, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database does not fit, then the written model, and then all does."""
    shutil.copytree(trained / "models", tmp_path / "models")
    before = live(tmp_path)
    chosen = settings(catalogue_url=None, retrain_work_dir=disk.folder)

    def write_on_full_disk(*arguments: Any) -> Manifest:
        disk.leave(40 * KIB)  # what stands there by now depends on how long fits took: only long ones are kept
        return write_verified(*arguments)

    for size, file in ((300 * KIB, "scratch.duckdb"), (16 * KIB * KIB, "model/")):
        disk.resize(size)
        with monkeypatch.context() as patched:
            patched.setattr(stages, "write_verified", write_on_full_disk)
            with pytest.raises(RunError, match=f"{disk.folder}/.*{file}.*(No space left on device|written)") as caught:
                run(chosen)
        assert caught.value.reason is Reason.STORE
        assert live(tmp_path) == before
        assert not list(disk.folder.glob("retrain-*/.lock"))
    disk.resize(16 * KIB * KIB)
    run(chosen)
    assert live(tmp_path) != before


def test_a_full_store_of_models(disk: Disk, settings: MakeSettings, trained: Path) -> None:
    """The model does not fit; then it does, without the state of training and the report: a run can do without them."""
    shutil.copytree(trained / "models", disk.folder / "models")
    taken = shutil.disk_usage(disk.folder).used
    before = live(disk.folder)
    chosen = settings(catalogue_url=None, model_store_url=(disk.folder / "models").as_uri())
    disk.resize(1.1 * taken)
    with pytest.raises(RunError, match=r"No space left on device: '.*\.npy'$") as caught:
        run(chosen)
    assert caught.value.reason is Reason.STORE
    assert live(disk.folder) == before
    assert Registry(FileStore(disk.folder / "models")).versions() == [before]
    disk.resize(1.57 * taken)
    logs = run(chosen)
    assert live(disk.folder) != before
    assert {"checkpoint.not_saved", "report.failed"} <= {one["event"] for one in logs}
