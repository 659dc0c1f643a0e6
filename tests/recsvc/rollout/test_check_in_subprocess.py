"""A model is checked and prepared by another process; what becomes of that one, this one goes on."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modelstore.artefact import MANIFEST, ArtefactError, read, write
from recsvc.model.derived_arrays import DerivedArrays
from recsvc.model.serving_model import ServingModel
from recsvc.rollout import check_in_subprocess as checking
from recsvc.rollout.acceptance_checks import check_model
from recsvc.rollout.check_in_subprocess import check_in_subprocess
from tests.recsvc.support.models import random_model
from tests.support.polling import wait_for

pytestmark = pytest.mark.process


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(random_model(), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def hanging(folder: Path) -> Path:
    """Return the folder of a model that nobody gets to the end of reading."""
    (folder / MANIFEST).unlink()
    os.mkfifo(folder / MANIFEST)
    return folder


def preparers(folder: Path) -> list[int]:
    """Return the processes that prepare this folder."""
    command = ["-m", "recsvc.rollout.prepare", str(folder), ""]
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            if path.read_bytes().decode("utf-8", "replace").split("\0")[1:] == command:
                found.append(int(path.parent.name))
    return found


def test_what_was_prepared_only_needs_mapping(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_in_subprocess(folder)

    monkeypatch.setattr(DerivedArrays, "computed", lambda _: pytest.fail("computed again"))
    found = ServingModel.of(replace(read(folder, checked=True), folder=folder))
    monkeypatch.undo()
    expected = check_model(read(folder))
    np.testing.assert_array_equal(found.heads, expected.heads)
    np.testing.assert_array_equal(found.prior, expected.prior)
    assert found.manifest == expected.manifest


def test_an_empty_log_level_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As everywhere in the environment."""
    monkeypatch.setenv("LOG_LEVEL", "")
    check_in_subprocess(folder)


def _damage(folder: Path) -> None:
    with (folder / "video_factors.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")


def _remove(folder: Path) -> None:
    (folder / "tags.npy").unlink()


def _overflow(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    write(replace(random_model(), video_biases=np.full(60, 3e38, np.float32)), folder)


@pytest.mark.parametrize("harm", [_damage, _remove, _overflow])
def test_a_refusal_is_the_same_as_in_this_process(folder: Path, harm: Callable[[Path], None]) -> None:
    harm(folder)
    with pytest.raises(ArtefactError) as expected:
        check_model(read(folder))
    with pytest.raises(ArtefactError) as found:
        check_in_subprocess(folder)

    assert (found.value.reason, str(found.value)) == (expected.value.reason, str(expected.value))


def test_one_that_is_killed_has_not_prepared(hanging: Path) -> None:
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(check_in_subprocess, hanging)
        (child,) = wait_for(lambda: preparers(hanging), timeout_s=60, what="the process")
        os.kill(child, signal.SIGKILL)
        with pytest.raises(ArtefactError, match="ended with status -9") as caught:
            waiting.result()
    assert caught.value.reason == checking.UNPREPARED


def test_one_that_hangs_is_ended(hanging: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "LIMIT_S", 3.0)
    with pytest.raises(ArtefactError, match="not prepared within 3 s") as caught:
        check_in_subprocess(hanging)

    assert caught.value.reason == checking.UNPREPARED
    assert preparers(hanging) == []


def test_it_ends_with_the_process_that_waits_for_it(hanging: Path) -> None:
    script = (
        "import pathlib; from recsvc.rollout.check_in_subprocess import check_in_subprocess; "
        f"check_in_subprocess(pathlib.Path({str(hanging)!r}))"
    )
    waiting = subprocess.Popen([sys.executable, "-c", script])
    wait_for(lambda: preparers(hanging), timeout_s=60, what="the process")
    waiting.kill()
    waiting.wait()

    wait_for(lambda: not preparers(hanging), timeout_s=60, what="its end")
