"""The real peers that tests speak to. Nothing listens on a fixed port, and everything ends with the run."""

import os
import subprocess
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

from deploy.local.kafka.choice import KafkaChoice, choose_kafka
from deploy.local.kafka.mock import MockKafka
from deploy.local.postgres import Postgres
from tests.support.dogstatsd import DogStatsdServer
from tests.support.grpc.grpcurl import Grpcurl
from tests.support.run.isolation import isolated
from tests.support.run.kinds import KINDS, SYSTEM, UNIT, kind_of

ROOT: Final = Path(__file__).parents[1]
SHARED_DATA: Final = ROOT.parent / "shared" / "data"

# How long a case takes says more of the machine than of the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
# Workers that make its files at once would read each other's halves.
set_hypothesis_home_dir(ROOT / ".hypothesis" / os.environ.get("PYTEST_XDIST_WORKER", "alone"))

KAFKA: Final = pytest.StashKey[KafkaChoice]()


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    for kind, meaning in KINDS.items():
        config.addinivalue_line("markers", f"{kind}: {meaning}; set by folder and fixtures")


def pytest_report_header(config: pytest.Config) -> str:
    """Say which Kafka the tests speak to."""
    config.stash[KAFKA] = choose_kafka()
    return f"kafka: {config.stash[KAFKA].title}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test with what it needs; workers begin with the files that take longest."""
    for item in items:
        item.add_marker(kind_of(item))
    if hasattr(config, "workerinput"):
        stacks = {item.path for item in items if item.get_closest_marker(SYSTEM)}
        fast = {item.path for item in items} - {item.path for item in items if not item.get_closest_marker(UNIT)}
        items.sort(key=lambda item: (item.path not in stacks, item.path in fast))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Share files out as `make test` says, by file, without starting a system on several workers."""
    if config.getvalue("dist") != "loadfile":
        return None
    from tests.support.run.schedule import BySystem  # noqa: PLC0415  # only whoever hands tests out needs it

    return BySystem(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Let a unit test that opens a socket or starts a process fail; its end may be that of all peers."""
    with isolated() if item.get_closest_marker(UNIT) else nullcontext():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Hold a unit test to the same while it runs."""
    with isolated() if item.get_closest_marker(UNIT) else nullcontext():
        return (yield)


@pytest.fixture(scope="session")
def kafka_bootstrap(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap addresses of the run's Kafka, which has the topics of the system. Leave it running: others use it."""
    choice = pytestconfig.stash.get(KAFKA, None) or choose_kafka()  # a quiet run shows no header
    server = choice.over(tmp_path_factory.mktemp("peers") / "kafka")
    yield server.start()
    server.stop()


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[MockKafka]:
    """A running Kafka of the test's own, to hang or kill (`child`): librdkafka's mock cluster, as it starts at once."""
    kafka = MockKafka(tmp_path / "own-kafka")
    kafka.start()
    yield kafka
    kafka.stop()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """The run's Postgres. Leave it running: others use it."""
    server = Postgres(tmp_path_factory.mktemp("peers") / "postgres", durable=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def postgres_url(postgres_server: Postgres) -> str:
    """URL of an empty database of the test module's own."""
    return postgres_server.create_database(f"test_{uuid4().hex}")


@pytest.fixture(scope="session")
def new_postgres(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a Postgres that was started once, to copy: a new one takes several times as long to make."""
    server = Postgres(tmp_path_factory.mktemp("peers") / "new-postgres", durable=False)
    server.start()
    server.stop()
    return server.folder


@pytest.fixture
def own_postgres(tmp_path: Path, new_postgres: Path) -> Iterator[Postgres]:
    """A running Postgres of the test's own, to hang or kill (`child`) and start again on the same data and port."""
    # With the owner, who need not be the one who runs the tests.
    subprocess.run(["cp", "-a", new_postgres, tmp_path / "own-postgres"], check=True)
    server = Postgres(tmp_path / "own-postgres", durable=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def dogstatsd() -> Iterator[DogStatsdServer]:
    """A DogStatsD agent's UDP socket."""
    with DogStatsdServer() as server:
        yield server


@pytest.fixture(scope="session")
def grpcurl() -> Grpcurl:
    """Calls a server as people do from the command line."""
    return Grpcurl()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of the data sets; the test is skipped where there is none."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the data sets are not beside the repository")
    return SHARED_DATA
