"""A run that is killed while it fits, and the one after it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelstore.registry import Registry
from servicekit.storage.object_store import FileStore
from tests.retrain.support.processes import smoke_servers
from tests.support.polling import wait_for

EPOCHS = 400
"""So many that each fit lasts long after its first one was told of."""
KILLED = ("validated", "final", "final")


def command(feed: Path, folder: Path) -> dict[str, Any]:
    """Return what starts a run of its own on one thread."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {
        "INTERACTIONS_URL": (feed / "exports").as_uri(),
        "CATALOGUE_URL": feed.as_uri(),
        "MODEL_STORE_URL": (folder / "models").as_uri(),
        "RETRAIN_WORK_DIR": str(folder / "work"),
        "RETRAIN_THREADS": "1",
        "RETRAIN_FACTORS": "16",
        "RETRAIN_EPOCHS": str(EPOCHS),
    }
    return {"args": [sys.executable, "-m", "retrain", "run"], "env": environment}


def kill_while_fitting(title: str, feed: Path, folder: Path) -> list[dict[str, Any]]:
    """Start a run, SIGKILL it once a fit has begun, and return what it logged."""
    run = subprocess.Popen(**command(feed, folder), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    logs = []
    assert run.stderr
    with run.stderr:
        for line in run.stderr:
            entry = json.loads(line)
            logs.append(entry)
            if entry["event"] == "epoch.done" and entry["fit"] == title:
                break
        assert smoke_servers(folder), "the server of the smoke test waits for the model"
        run.send_signal(signal.SIGKILL)
    assert run.wait(60) == -signal.SIGKILL, f"the run was over before {title} could be killed"
    wait_for(lambda: not smoke_servers(folder), what="the server ends with the run")
    return logs


def finish(feed: Path, folder: Path) -> list[dict[str, Any]]:
    done = subprocess.run(**command(feed, folder), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


def fits(logs: list[dict[str, Any]], event: str) -> list[str]:
    return [entry["fit"] for entry in logs if entry["event"] == event]


@pytest.fixture(scope="module")
def straight(feed: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the versions that a run publishes that nothing happened to."""
    folder = tmp_path_factory.mktemp("straight")
    finish(feed, folder)
    return Registry(FileStore(folder / "models")).versions()


@pytest.mark.timeout(300)  # five processes one after another
def test_run_goes_on_from_the_fits_that_were_done(feed: Path, tmp_path: Path, straight: list[str]) -> None:
    """Killed in each fit, and once it had resumed, it comes to the same bits, repeats no fit, leaves nothing.

    A kept fit that is broken is made again.
    """
    for title, resumed in zip(KILLED, ([], ["earlier"], ["validated"]), strict=True):
        logs = kill_while_fitting(title, feed, tmp_path)
        assert fits(logs, "fit.resumed") == resumed
        assert not (tmp_path / "models").exists()
    (validated,) = (tmp_path / "work").rglob("validated")
    broken = max(validated.iterdir(), key=lambda file: file.stat().st_size)
    broken.write_bytes(broken.read_bytes()[:-1])
    logs = finish(feed, tmp_path)
    assert fits(logs, "fit.not_resumed") == ["validated"]
    assert fits(logs, "fit.resumed") == ["earlier"]
    assert fits(logs, "fit.done") == ["validated", "final"]
    assert Registry(FileStore(tmp_path / "models")).versions() == straight
    assert [path.name for path in (tmp_path / "work").iterdir() if path.name.startswith("retrain-")] == []
