"""The server of a written model, started for a test before the model goes live."""

import os
import shutil
import signal
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modelstore.artefact import Model, read, write
from retrain.errors import Reason, RunError
from retrain.gates import smoke_test as module
from retrain.gates.smoke_test import Smoke, SmokeServer
from tests.recsvc.support.models import random_model
from tests.retrain.support.processes import smoke_servers
from tests.support.polling import wait_for

pytestmark = pytest.mark.process


def smoke(model: Path, scratch: Path) -> Smoke:
    with closing(SmokeServer(scratch)) as server:
        return server.test(model)


def test_pages_of_a_good_model_are_what_it_says(tmp_path: Path) -> None:
    write(random_model(), tmp_path / "model")
    found = smoke(tmp_path / "model", tmp_path / "smoke")
    assert found.calls == 5 * found.users
    assert 0 < found.p50_ms <= found.p95_ms < 100


def test_pages_of_another_model_than_was_written_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server ranks by is compared with the model that training holds, not with itself."""
    write(random_model(), tmp_path / "model")

    def other(folder: Path, read: Callable[[Path], Model] = read) -> Model:
        model = read(folder)
        return replace(model, video_biases=np.flip(model.video_biases) + np.float32(1))

    monkeypatch.setattr(module, "read", other)
    with pytest.raises(RunError, match="other scores") as caught:
        smoke(tmp_path / "model", tmp_path / "smoke")
    assert caught.value.reason is Reason.SMOKE


def test_a_model_that_the_server_refuses_is_told_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(random_model(), tmp_path / "model")
    shutil.copytree(tmp_path / "model", tmp_path / "cut")
    factors = tmp_path / "cut" / "video_factors.npy"
    factors.write_bytes(factors.read_bytes()[:-1])
    monkeypatch.setattr(module, "read", lambda _: read(tmp_path / "model"))
    with pytest.raises(RunError, match=r"does not take it: FAILED_PRECONDITION: .+video_factors.npy"):
        smoke(tmp_path / "cut", tmp_path / "smoke")


def test_a_server_that_cannot_start_is_told_by_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(random_model(), tmp_path / "model")
    monkeypatch.setattr(module, "_environment", lambda *_: {"RECSVC_THREADS": "0"})
    with pytest.raises(RunError, match=r"the server of the new model ended with status 2; its last words: error: .+"):
        smoke(tmp_path / "model", tmp_path / "smoke")


def test_a_server_that_ended_while_the_model_was_in_training_is_started_again(tmp_path: Path) -> None:
    write(random_model(), tmp_path / "model")
    with closing(SmokeServer(tmp_path / "smoke")) as server:
        (process,) = wait_for(lambda: smoke_servers(tmp_path), what="the server is there")
        os.kill(process, signal.SIGKILL)
        wait_for(lambda: not smoke_servers(tmp_path), what="it is gone")
        assert server.test(tmp_path / "model").calls
    assert not smoke_servers(tmp_path)


def test_a_server_that_ends_while_it_takes_the_model_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(random_model(), tmp_path / "model")
    link = Path.symlink_to

    def ended(self: Path, target: Path) -> None:
        link(self, target)
        for process in smoke_servers(tmp_path):
            os.kill(process, signal.SIGKILL)

    monkeypatch.setattr(Path, "symlink_to", ended)
    with pytest.raises(RunError, match=r"the server of the new model ended with status -9; its last words: none"):
        smoke(tmp_path / "model", tmp_path / "smoke")
