"""Publication to real stores: versions never change, and the pointer respects pins, newer data and other writers."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from modelstore.artefact import read
from modelstore.registry import POINTER, Pointer, Registry
from retrain.errors import Reason, RunError
from retrain.publishing.publish import (
    Outcome,
    Publication,
    activate,
    live_version,
    name_prefix,
    publish,
    write_verified,
)
from servicekit.storage.object_store import FileStore, ObjectStore, open_store
from tests.retrain.support.models import NOW, model
from tests.support.s3 import new_bucket

pytestmark = pytest.mark.peer

Publish = Callable[..., Publication]


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    if request.param == "file":
        return FileStore(tmp_path / "store")
    environment: dict[str, str] = request.getfixturevalue("s3_environment")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return open_store(f"s3://{new_bucket(environment)}/models")


@pytest.fixture
def registry(store: ObjectStore) -> Registry:
    return Registry(store)


@pytest.fixture
def publish_model(registry: Registry, tmp_path: Path) -> Publish:
    """Return what writes and publishes a model."""

    def write_and_publish(**fields: Any) -> Publication:
        made = model(**fields)
        folder = tmp_path / f"written-{len(list(tmp_path.iterdir()))}"
        manifest = write_verified(made, name_prefix(made.manifest.data_until, "cafecafe"), folder)
        return publish(registry, folder, manifest, now=NOW)

    return write_and_publish


def test_published_model_is_live_and_reads_back(registry: Registry, publish_model: Publish, tmp_path: Path) -> None:
    published = publish_model()
    assert published.outcome is Outcome.LIVE
    assert published.version.startswith("20260302T020000Z-cafecafe-")
    current = registry.current()
    assert current
    found = read(registry.fetch(current[0], tmp_path / "cache"))
    assert found.manifest.version == live_version(registry) == published.version
    assert found.seen[0].tolist() == [1]


def test_same_bits_are_published_once(registry: Registry, publish_model: Publish, store: ObjectStore) -> None:
    first = publish_model()
    before = {key: store.read(key).tag for key in store.list("")}
    again = publish_model()
    assert again == Publication(version=first.version, outcome=Outcome.ALREADY_LIVE)
    assert {key: store.read(key).tag for key in store.list("")} == before
    assert registry.versions() == [first.version]


def test_models_that_differ_have_names_of_their_own(registry: Registry, publish_model: Publish) -> None:
    first, second = publish_model(), publish_model(factor=2.0)
    assert first.version != second.version
    assert second.outcome is Outcome.LIVE
    assert live_version(registry) == second.version


def test_pinned_version_stays_live(registry: Registry, publish_model: Publish) -> None:
    pinned = publish_model()
    registry.activate(pinned.version, at=NOW, pin=True)
    assert publish_model(factor=2.0).outcome is Outcome.PINNED
    assert live_version(registry) == pinned.version


def test_older_data_does_not_replace_newer(registry: Registry, publish_model: Publish) -> None:
    newer = publish_model()
    older = publish_model(until=NOW - timedelta(days=1))
    assert older.outcome is Outcome.NEWER_LIVE
    assert live_version(registry) == newer.version
    assert registry.versions() == [newer.version, older.version]


class Racing(Registry):
    """A registry whose pointer another publisher moves just before this one does."""

    def __init__(self, store: ObjectStore, other: Registry, rival: str, *, times: int) -> None:
        super().__init__(store)
        self.other, self.rival, self.times = other, rival, times

    def activate(self, version: str, *, at: datetime, pin: bool = False, tag: str | None = None) -> Pointer:
        if self.times:
            self.times -= 1
            self.other.activate(self.rival, at=at + timedelta(seconds=self.times))
        return super().activate(version, at=at, pin=pin, tag=tag)


def test_publisher_that_lost_the_pointer_looks_again(
    registry: Registry, publish_model: Publish, store: ObjectStore
) -> None:
    old, new = publish_model(until=NOW - timedelta(days=2)), publish_model()
    middle = publish_model(until=NOW - timedelta(days=1))
    registry.activate(old.version, at=NOW)
    overtaken = activate(Racing(store, registry, new.version, times=1), middle.version, now=NOW)
    assert overtaken.outcome is Outcome.NEWER_LIVE
    assert live_version(registry) == new.version


def test_publisher_that_keeps_losing_gives_up(registry: Registry, publish_model: Publish, store: ObjectStore) -> None:
    old, new = publish_model(until=NOW - timedelta(days=2)), publish_model()
    registry.activate(old.version, at=NOW)
    with pytest.raises(RunError, match="changed 5 times") as caught:
        activate(Racing(store, registry, old.version, times=99), new.version, now=NOW)
    assert caught.value.reason is Reason.PUBLISH
    assert live_version(registry) == old.version


def test_live_version_that_cannot_be_read_is_replaced(publish_model: Publish, store: ObjectStore) -> None:
    broken = publish_model()
    store.delete(f"{broken.version}/manifest.json")
    assert publish_model(factor=2.0).outcome is Outcome.LIVE


def test_broken_pointer_is_not_overwritten(publish_model: Publish, store: ObjectStore) -> None:
    publish_model()
    store.replace(POINTER, b"{}", tag=store.read(POINTER).tag)
    with pytest.raises(RunError, match="pointer is broken"):
        publish_model(factor=2.0)
    assert store.read(POINTER).data == b"{}"


def test_model_with_numbers_that_are_not_finite_is_not_published(registry: Registry, publish_model: Publish) -> None:
    with pytest.raises(RunError, match="user_factors") as caught:
        publish_model(factor=float("nan"))
    assert caught.value.reason is Reason.ARTEFACT
    assert registry.versions() == []


@pytest.mark.parametrize("factor", [3e38, 1e20, float("nan")])
def test_a_model_that_servers_would_refuse_is_not_written(tmp_path: Path, factor: float) -> None:
    with pytest.raises(RunError, match="not fit to be served") as caught:
        write_verified(model(factor=factor), "20260302-", tmp_path / "written")

    assert caught.value.reason is Reason.ARTEFACT
