from pathlib import Path

import pytest

from recsvc.artefact import MANIFEST, ArtefactError, read
from recsvc.registry import POINTER, Registry
from servicekit.objectstore import FileStore, ObjectChangedError, ObjectNotFoundError
from tests.recsvc.models import TRAINED_AT, publish, random_model


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def registry(store: Path) -> Registry:
    return Registry(FileStore(store))


def test_an_empty_store_has_no_current_model(registry: Registry) -> None:
    assert registry.current() is None
    assert registry.versions() == []


def test_publishing_makes_nothing_live(registry: Registry, store: Path) -> None:
    publish(store, random_model(version="1"), activate=False)

    assert registry.current() is None
    assert registry.versions() == ["1"]


def test_versions_come_newest_first_without_unfinished_ones(registry: Registry, store: Path) -> None:
    for version in ("20250901", "20250903", "20250902"):
        publish(store, random_model(version=version))
    (store / "20250904").mkdir()
    (store / "20250904" / "users.npy").write_bytes(b"")

    assert registry.versions() == ["20250903", "20250902", "20250901"]


def test_of_two_publishers_one_wins(registry: Registry, store: Path) -> None:
    publish(store, random_model(version="1"))
    publish(store, random_model(version="2"), activate=False)
    current = registry.current()
    assert current is not None

    registry.activate("2", at=TRAINED_AT, tag=current[1])
    with pytest.raises(ObjectChangedError):
        registry.activate("1", at=TRAINED_AT, tag=current[1])
    after = registry.current()
    assert after is not None
    assert after[0].version == "2"


def test_a_version_that_was_never_published_cannot_be_activated(registry: Registry) -> None:
    with pytest.raises(ObjectNotFoundError):
        registry.activate("1", at=TRAINED_AT)


def test_a_fetched_model_is_the_published_one(registry: Registry, store: Path, tmp_path: Path) -> None:
    pointer = publish(store, random_model())
    assert pointer is not None

    folder = registry.fetch(pointer, tmp_path / "cache")

    assert read(folder).manifest.version == pointer.version
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [pointer.version]


def test_a_fetched_model_is_not_downloaded_again(registry: Registry, store: Path, tmp_path: Path) -> None:
    pointer = publish(store, random_model())
    assert pointer is not None
    folder = registry.fetch(pointer, tmp_path / "cache")
    (store / pointer.version / "users.npy").unlink()

    assert registry.fetch(pointer, tmp_path / "cache") == folder


@pytest.mark.parametrize("name", ["users.npy", MANIFEST])
def test_a_model_with_a_missing_file_is_not_fetched(registry: Registry, store: Path, tmp_path: Path, name: str) -> None:
    """The folder appears whole or not at all."""
    pointer = publish(store, random_model())
    assert pointer is not None
    (store / pointer.version / name).unlink()

    with pytest.raises(ArtefactError) as caught:
        registry.fetch(pointer, tmp_path / "cache")
    assert caught.value.reason == "missing"
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_manifest_changed_after_activation_is_refused(registry: Registry, store: Path, tmp_path: Path) -> None:
    pointer = publish(store, random_model())
    assert pointer is not None
    path = store / pointer.version / MANIFEST
    path.write_bytes(path.read_bytes() + b" ")

    with pytest.raises(ArtefactError) as caught:
        registry.fetch(pointer, tmp_path / "cache")
    assert caught.value.reason == "checksum"


@pytest.mark.parametrize("version", ["", ".", "..", "../up", "a/b", "/etc", ".hidden", "a\n", "x" * 129])
def test_no_version_name_leaves_its_folder(registry: Registry, version: str) -> None:
    with pytest.raises(ArtefactError) as caught:
        registry.manifest(version)
    assert caught.value.reason == "name"


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b'{"version": 1}'])
def test_a_broken_pointer_is_refused(registry: Registry, store: Path, data: bytes) -> None:
    store.mkdir()
    (store / POINTER).write_bytes(data)

    with pytest.raises(ArtefactError) as caught:
        registry.current()
    assert caught.value.reason == "pointer"
