"""Which model is live, changed over RPC, against a real store."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from modelstore.artefact import ArtefactError
from modelstore.registry import Registry
from recsvc.app import RecommendationServer
from recsvc.model.live_model import LiveModel
from recsvc.rollout.activation import ModelActivation
from recsvc.rollout.listing import ModelListing
from recsvc.rollout.watcher import ModelWatcher
from servicekit.grpc.errors import ServiceError
from servicekit.storage.object_store import FileStore
from servicekit.telemetry.metrics import NoMetrics
from tests.recsvc.support.calls import Client, Failure
from tests.recsvc.support.models import TRAINED_AT, publish, random_model
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

pytestmark = pytest.mark.process


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return a store with versions 1 and 2, 2 live."""
    for version in ("1", "2"):
        publish(tmp_path / "store", random_model(int(version), version=version))
    return tmp_path / "store"


@pytest.fixture
def client(store: Path) -> Iterator[Client]:
    """Connect to a server that looks at the pointer only when told to."""
    server = RecommendationServer(
        FileStore(store), store.parent / "cache", NoMetrics(), threads=4, poll_interval_s=3600
    )
    port = server.start("127.0.0.1:0")
    with Client.to(port) as client:
        yield client
    server.stop(1)


def ranking_version(client: Client) -> str:
    return client.recommendations.Recommend(pb.RecommendRequest(user_id="u1"), timeout=5).model_version


def activate(client: Client, version: str, *, pin: bool = False) -> pb.Model:
    return client.models.ActivateModel(pb.ActivateModelRequest(version=version, pin=pin), timeout=10).model


def test_roll_back_and_forth(client: Client) -> None:
    assert ranking_version(client) == "2"

    back = activate(client, "1")

    assert (back.version, back.live, ranking_version(client)) == ("1", True, "1")
    assert activate(client, "2").version == ranking_version(client) == "2"


def test_a_pin_is_kept_in_the_pointer(client: Client, store: Path) -> None:
    activate(client, "1", pin=True)

    current = Registry(FileStore(store)).current()
    assert current
    assert (current[0].version, current[0].pinned) == ("1", True)


def test_reload_takes_what_was_published_since(client: Client, store: Path) -> None:
    nothing = client.models.ReloadModel(pb.ReloadModelRequest(), timeout=10)
    publish(store, random_model(3, version="3"))
    something = client.models.ReloadModel(pb.ReloadModelRequest(), timeout=10)

    assert (nothing.changed, nothing.model.version) == (False, "2")
    assert (something.changed, something.model.version, something.model.live) == (True, "3", True)
    assert ranking_version(client) == "3"


@pytest.mark.parametrize(
    ("version", "code"),
    [
        ("", grpc.StatusCode.INVALID_ARGUMENT),
        ("../1", grpc.StatusCode.INVALID_ARGUMENT),
        ("9", grpc.StatusCode.NOT_FOUND),
    ],
)
def test_a_version_that_does_not_exist(client: Client, version: str, code: grpc.StatusCode) -> None:
    failure = Failure.of(lambda: activate(client, version))

    assert failure.code == code
    assert ranking_version(client) == "2"


def test_a_broken_version_leaves_pointer_and_model_as_they_were(client: Client, store: Path) -> None:
    """Every replica follows the pointer, so it must not stay on what none may serve."""
    (store / "1" / "video_factors.npy").write_bytes(b"\0" * 100)

    failure = Failure.of(lambda: activate(client, "1"))

    assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_REFUSED")
    assert ranking_version(client) == "2"
    current = Registry(FileStore(store)).current()
    assert current
    assert current[0].version == "2"


def test_reload_of_what_must_not_be_served_says_so(client: Client, store: Path) -> None:
    publish(store, random_model(4, version="4"))
    (store / "4" / "popularity.npy").unlink()

    failure = Failure.of(lambda: client.models.ReloadModel(pb.ReloadModelRequest(), timeout=10))

    assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_REFUSED")
    assert ranking_version(client) == "2"


def test_a_version_that_was_removed_since_it_was_looked_at_is_not_found(client: Client, store: Path) -> None:
    client.models.GetModel(pb.GetModelRequest(version="1"), timeout=10)
    shutil.rmtree(store / "1")

    failure = Failure.of(lambda: activate(client, "1"))

    assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    assert ranking_version(client) == "2"


def test_a_refused_activation_does_not_undo_a_later_one(store: Path) -> None:
    registry, live = Registry(FileStore(store)), LiveModel(retry_after_s=1)

    class Overtaken(ModelWatcher):
        def __init__(self) -> None:
            pass

        def look(self, **_: bool) -> bool:
            """Refuse the model, while an operator elsewhere pins another one."""
            registry.activate("2", at=TRAINED_AT, pin=True)
            raise ArtefactError("canary", "is refused")

    control = ModelActivation(registry, Overtaken(), ModelListing(registry, live), now=lambda: TRAINED_AT)
    with pytest.raises(ServiceError, match="is refused"):
        control.activate("1", pin=False)

    current = registry.current()
    assert current
    assert (current[0].version, current[0].pinned) == ("2", True)
