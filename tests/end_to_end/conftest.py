"""One system for all tests of this folder: simulated data, a trained model, both services."""

import os
from collections.abc import Iterator
from uuid import uuid4

import pytest

from deploy.local.data_folder import DataSet
from deploy.local.first_model import simulate
from deploy.local.postgres import Postgres
from tests.support.grpc.grpcurl import Grpcurl
from tests.support.polling import wait_for
from tests.support.system import System, running


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """A small simulated feed."""
    data = DataSet(tmp_path_factory.mktemp("end_to_end") / "data")
    simulate(data, os.environ)
    return data


@pytest.fixture(scope="session")
def shared_system(
    simulated: DataSet,
    postgres_server: Postgres,
    kafka_bootstrap: str,
    grpcurl: Grpcurl,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[System]:
    """The system of all tests."""
    database = postgres_server.create_database(f"end_to_end_{uuid4().hex}")
    folder = tmp_path_factory.mktemp("end_to_end")
    with running(folder, simulated, database, kafka_bootstrap, grpcurl) as system:
        yield system


@pytest.fixture
def system(shared_system: System) -> System:
    """The system, serving personal pages."""
    user = shared_system.users(1)[0]
    wait_for(
        lambda: shared_system.feed(user_id=user).message.get("served_by") == "SERVED_BY_LIGHTFM",
        timeout_s=15,
        interval_s=0.2,
        what="personal pages",
    )
    return shared_system
