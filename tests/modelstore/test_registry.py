import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Barrier

import pytest

from modelstore.artefact import MANIFEST, ArtefactError, read, read_manifest, write
from modelstore.partial_folder import partial_folder
from modelstore.registry import POINTER, Registry
from modelstore.signature import SigningKey
from servicekit.storage.object_store import FileStore, ObjectChangedError, ObjectNotFoundError, open_store
from tests.recsvc.support.models import TRAINED_AT, publish, random_model
from tests.support.polling import wait_for
from tests.support.s3 import new_bucket, seaweedfs_server


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


@pytest.fixture(scope="module")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with seaweedfs_server(tmp_path_factory.mktemp("seaweedfs")) as environment:
        yield environment


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["file", "s3"])
@pytest.mark.parametrize("difference", ["manifest", "last file"])
def test_of_two_publishers_of_one_version_one_wins(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, difference: str
) -> None:
    """Run against each other at full speed: what is published is the winner's, whole and signed by it."""
    if kind == "s3":
        environment: dict[str, str] = request.getfixturevalue("seaweedfs")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        url = f"s3://{new_bucket(environment)}/models"
    else:
        url = (tmp_path / "raced").as_uri()
    keys = [SigningKey.generate() for _ in range(2)]
    folders = []
    for number in range(2):
        model = random_model(version="1")
        if difference == "manifest":
            model = replace(model, manifest=model.manifest.model_copy(update={"popularity_weight": number}))
        else:
            model.video_factors[0] = number
        folders.append(tmp_path / f"written-{number}")
        write(model, folders[-1])
    together = Barrier(2)

    def publish_one(number: int) -> bool:
        registry = Registry(open_store(url))
        together.wait(30)
        try:
            registry.publish(folders[number], read_manifest((folders[number] / MANIFEST).read_bytes()), keys[number])
        except ObjectChangedError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        won = list(pool.map(publish_one, range(2)))

    assert sorted(won) == [False, True]
    winner = won.index(True)
    registry = Registry(open_store(url), keys[winner].verifier())
    folder = registry.fetch(registry.activate("1", at=TRAINED_AT), tmp_path / "cache")
    assert (folder / MANIFEST).read_bytes() == (folders[winner] / MANIFEST).read_bytes()
    assert read(folder).manifest.version == "1"


def test_an_upload_that_was_cut_short_is_taken_up_again(registry: Registry, store: Path, tmp_path: Path) -> None:
    manifest = write(random_model(version="1"), tmp_path / "written")
    registry.publish(tmp_path / "written", manifest)
    (store / "1" / MANIFEST).unlink()
    (store / "1" / "videos.npy").unlink()

    registry.publish(tmp_path / "written", manifest)
    registry.publish(tmp_path / "written", manifest)

    assert read(registry.fetch(registry.activate("1", at=TRAINED_AT), tmp_path / "cache")).manifest.version == "1"


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


def _download(cache: Path) -> None:
    """Begin a download, and wait to be killed."""
    with partial_folder(cache) as folder:
        (folder / "half").touch()
        signal.pause()


def _are_under_way(cache: Path, count: int) -> bool:
    return len(list(cache.glob(".*/half"))) == count


@pytest.mark.process
def test_what_a_killed_download_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """That of a living process stays."""
    dead, living = (multiprocessing.get_context("spawn").Process(target=_download, args=(tmp_path,)) for _ in range(2))
    try:
        for count, process in enumerate((dead, living), 1):
            process.start()
            wait_for(partial(_are_under_way, tmp_path, count), timeout_s=60, what="a download")
        dead.kill()
        dead.join()
        with partial_folder(tmp_path) as folder:
            assert _are_under_way(tmp_path, 1)
            assert not list(folder.iterdir())
    finally:
        for process in (dead, living):
            process.kill()
            process.join()
