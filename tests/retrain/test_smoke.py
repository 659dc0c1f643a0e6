"""The server of a written model, started for a test before the model goes live."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from recsvc.artefact import Model, read, write
from retrain import smoke as module
from retrain.failure import Reason, RunFailure
from retrain.smoke import smoke
from tests.recsvc.models import random_model

NOW = datetime(2026, 3, 5, 2, 0, tzinfo=UTC)


def test_pages_of_a_good_model_are_what_it_says(tmp_path: Path) -> None:
    write(random_model(), tmp_path / "model")
    found = smoke(tmp_path / "model", tmp_path / "smoke", now=NOW)
    assert found.calls == 10 * found.viewers
    assert 0 < found.p50_ms <= found.p95_ms < 100


def test_pages_of_another_model_than_was_written_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server ranks by is compared with the model that training holds, not with itself."""
    write(random_model(), tmp_path / "model")

    def other(folder: Path, read: Callable[[Path], Model] = read) -> Model:
        model = read(folder)
        return replace(model, video_biases=np.flip(model.video_biases) + np.float32(1))

    monkeypatch.setattr(module, "read", other)
    with pytest.raises(RunFailure, match="other scores") as caught:
        smoke(tmp_path / "model", tmp_path / "smoke", now=NOW)
    assert caught.value.reason is Reason.SMOKE


def test_a_server_that_cannot_start_is_told_by_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(random_model(), tmp_path / "model")
    monkeypatch.setattr(module, "_environment", lambda *_: {"RECSVC_THREADS": "0"})
    with pytest.raises(RunFailure, match=r"the server of the new model ended: error: .+"):
        smoke(tmp_path / "model", tmp_path / "smoke", now=NOW)
