"""Feeds and settings of training runs."""

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from retrain.settings import RetrainSettings
from retrain.simulation import Simulation, simulate
from tests.support.s3 import s3_server

SIMULATION = Simulation(users=400, videos=240, days=4, views=10, seed=5, last=date(2026, 3, 4))

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

    def make(**fields: Any) -> RetrainSettings:
        defaults: dict[str, Any] = {
            "interactions_url": (feed / "exports").as_uri(),
            "catalogue_url": feed.as_uri(),
            "model_store_url": (tmp_path / "models").as_uri(),
            "retrain_work_dir": tmp_path / "work",
            "retrain_factors": 16,
            "retrain_epochs": 8,
            "retrain_threads": 1,
        }
        return RetrainSettings(**(defaults | fields))

    return make


@pytest.fixture(scope="session")
def s3_environment() -> Iterator[dict[str, str]]:
    """Yield the environment that leads boto3 to an S3 server of the run's own."""
    with s3_server() as environment:
        yield environment
