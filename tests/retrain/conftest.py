"""Feeds and settings of training runs."""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest

from retrain.importers.simulation import simulate
from retrain.settings import RetrainSettings
from tests.retrain.support.command import retrain, where
from tests.retrain.support.feeds import row, write_day
from tests.retrain.support.processes import LEARNING
from tests.retrain.support.simulated import SIMULATION
from tests.retrain.support.stages import quick_settings
from tests.support.s3 import s3_server

MakeSettings: TypeAlias = Callable[..., RetrainSettings]


@pytest.fixture(scope="session")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small simulated feed of the days 2026-03-01 to 2026-03-04."""
    folder = tmp_path_factory.mktemp("simulated")
    simulate(SIMULATION, folder)
    return folder


@pytest.fixture
def settings(tmp_path: Path, feed: Path) -> MakeSettings:
    """Return a maker of settings for a quick run on the simulated feed; arguments replace fields."""
    return partial(quick_settings, feed, tmp_path)


@pytest.fixture
def poisoned(feed: Path, tmp_path: Path) -> Path:
    """Return exports of the feed in which all interactions of the last day are with one video."""
    exports = tmp_path / "poisoned"
    for day in ("2026-03-01", "2026-03-02", "2026-03-03"):
        (exports / day).mkdir(parents=True)
        (exports / day / "a.parquet").symlink_to(feed / "exports" / day / "interactions-0000.parquet")
    clicks = [
        row(f"sim-u{user % 400:07}", "sim-v0000001", time=f"2026-03-04T{user // 400:02}:00:00Z") for user in range(4000)
    ]
    write_day(exports, "2026-03-04", clicks)
    return exports


@pytest.fixture(scope="session")
def s3_environment() -> Iterator[dict[str, str]]:
    """Yield the environment that leads boto3 to an S3 server of the run's own."""
    with s3_server() as environment:
        yield environment


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, feed: Path) -> Path:
    """Return a folder with a live model of the days before the last one."""
    folder = tmp_path_factory.mktemp("trained")
    done = retrain("run", "--date", "2026-03-03", **where(folder, feed / "exports"), **LEARNING)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def copied(trained: Path, tmp_path: Path, feed: Path) -> dict[str, str]:
    """Return the environment of runs on a copy of that folder, of the test's own."""
    shutil.copytree(trained / "models", tmp_path / "models")
    return where(tmp_path, feed / "exports") | LEARNING
