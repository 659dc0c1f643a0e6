"""Runs that are killed, stopped, doubled or starved; the live model is never harmed."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from structlog.testing import capture_logs

from bridge.postgres.migrate import migrate
from retrain.errors import Reason, RunError
from retrain.importers.simulation import Simulation, simulate
from retrain.scheduling.single_run import run_once
from retrain.settings import RetrainSettings
from servicekit.process.ports import free_port
from tests.retrain.support.command import QUICK, ROOT, retrain, where
from tests.retrain.support.feeds import due_day
from tests.retrain.support.processes import live, rest_of_lines, running, wait_for_line
from tests.support.dogstatsd import DogStatsdServer
from tests.support.s3 import CREDENTIALS


def test_a_run_that_is_killed_at_any_stage_is_done_anew_by_the_next(
    trained: Path, copied: dict[str, str], tmp_path: Path, feed: Path
) -> None:
    """On one thread it comes to the same bits as a run that nobody disturbed, and leaves no scratch files."""
    before = live(tmp_path)
    for stage in ('"epoch": 1', "gate.compared", "gate.smoked"):
        with running(**copied) as process:
            wait_for_line(process, stage)
            process.kill()
        assert live(tmp_path) == before
    done = retrain("run", **copied)
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "work").glob("retrain-*/.lock"))
    states = [line.split()[3] for line in retrain("status", **copied).stdout.splitlines()[1:]]
    assert states == ["succeeded", *["failed"] * 3]

    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(trained / "models", undisturbed / "models")
    assert retrain("run", **copied | where(undisturbed, feed / "exports")).returncode == 0
    assert live(tmp_path) == live(undisturbed) != before


def test_of_two_runs_at_once_one_wins(copied: dict[str, str], tmp_path: Path) -> None:
    with running(**copied) as first:
        wait_for_line(first, "interactions.prepared")
        first.send_signal(signal.SIGSTOP)
        second = retrain("run", **copied)
        first.send_signal(signal.SIGCONT)
        last_words = rest_of_lines(first)
        assert first.wait(60) == 0, last_words
    assert second.returncode == 4
    assert second.stderr.splitlines()[-1].startswith("error: another run is under way")
    assert live(tmp_path) > "20260303"


def test_a_run_that_lost_its_lock_does_not_publish(copied: dict[str, str], tmp_path: Path, postgres_url: str) -> None:
    migrate(postgres_url)
    before = live(tmp_path)
    with running(**copied, DATABASE_URL=postgres_url) as process:
        wait_for_line(process, "interactions.prepared")
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute("UPDATE retrain_lease SET fence = fence + 1")
        lines = rest_of_lines(process)
        assert process.wait(60) == 1
    assert lines[-1] == "error: the lock was lost: another run may be under way"
    assert live(tmp_path) == before
    with psycopg.connect(postgres_url) as connection:
        kept = connection.execute("SELECT state, reason, interactions > 0 FROM retrain_runs").fetchall()
    assert kept == [("failed", "lock", True)]
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE retrain_lease SET expires_at = '-infinity'")  # whoever took it is done
    assert retrain("run", **copied, DATABASE_URL=postgres_url).returncode == 0
    assert live(tmp_path) != before


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_told_to_end_says_so(
    copied: dict[str, str], tmp_path: Path, number: signal.Signals, status: int
) -> None:
    before = live(tmp_path)
    with running(**copied) as process:
        wait_for_line(process, "interactions.prepared")
        process.send_signal(number)
        assert "Traceback" not in "".join(rest_of_lines(process))
        assert process.wait(60) == status
    assert "killed: the process was told to end" in retrain("status", **copied).stdout
    assert live(tmp_path) == before


def test_a_disk_that_is_full_is_one_line(copied: dict[str, str], tmp_path: Path) -> None:
    """No file may grow beyond 256 KiB."""
    before = live(tmp_path)
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 256; exec "$0" -m retrain run', sys.executable],
        cwd=ROOT, env=kept | QUICK | copied, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    assert live(tmp_path) == before


def test_a_run_that_cannot_begin_is_told_of(
    settings: Callable[..., RetrainSettings], tmp_path: Path, dogstatsd: DogStatsdServer
) -> None:
    """Neither the lock nor the log of runs can be written."""
    (tmp_path / "file").touch()
    chosen = settings(dd_agent_host=dogstatsd.host, dd_dogstatsd_port=dogstatsd.port)
    chosen = chosen.model_copy(update={"retrain_work_dir": tmp_path / "file" / "work"})  # a file since
    with capture_logs(), pytest.raises(RunError, match="Not a directory") as caught:
        run_once(chosen, last=None, dry_run=False, again=False, force=False)
    assert caught.value.reason is Reason.STORE
    dogstatsd.wait("feed.lightfm.retrain.failure", "reason:store")


def test_a_mistyped_catalogue_is_an_error(copied: dict[str, str], tmp_path: Path) -> None:
    done = retrain("run", **copied | {"CATALOGUE_URL": (tmp_path / "catalog").as_uri()})
    assert done.returncode == 2
    assert done.stderr == f"error: CATALOGUE_URL: {(tmp_path / 'catalog').as_uri()} is empty, or not there\n"


@pytest.mark.parametrize("command", [("activate", "20260305T000000Z-1-2"), ("prune",), ("run",)])
def test_a_store_out_of_reach_is_one_line(tmp_path: Path, feed: Path, command: tuple[str, ...]) -> None:
    environment = where(tmp_path, feed / "exports") | CREDENTIALS
    environment |= {"MODEL_STORE_URL": "s3://models", "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{free_port()}"}
    done = retrain(*command, **environment)
    assert done.returncode == 1
    (line,) = [one for one in done.stderr.splitlines() if not one.startswith("{")]
    assert line.startswith("error: s3://models/")
    assert "Could not connect" in line


def test_the_schedule_runs_what_is_due_and_then_nothing(tmp_path: Path, postgres_url: str) -> None:
    """The newest day of a fresh feed that is due comes first, as nothing is live."""
    migrate(postgres_url)
    simulate(Simulation(users=150, videos=80, days=3, views=8, seed=1, last=due_day()), tmp_path / "feed")
    environment = where(tmp_path, tmp_path / "feed" / "exports") | {"DATABASE_URL": postgres_url}
    assert retrain("schedule", "--once", **environment).returncode == 0
    version = live(tmp_path)
    assert retrain("schedule", "--once", **environment).returncode == 0
    assert live(tmp_path) == version
    status = retrain("status", **environment).stdout.splitlines()
    assert status[1].split()[3] == "succeeded"
    assert version in status[1]
