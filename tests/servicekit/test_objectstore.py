"""Both stores keep the same promises: folders of this machine, and buckets of a real S3 server."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from servicekit.objectstore import (
    MISSING,
    FileStore,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectStore,
    S3Store,
    open_store,
)
from tests.support.s3 import new_bucket, s3_server


@pytest.fixture(scope="module")
def s3_environment() -> Iterator[dict[str, str]]:
    with s3_server() as environment:
        yield environment


@pytest.fixture(params=["file", "s3"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> ObjectStore:
    """A store of each kind, empty."""
    if request.param == "file":
        return open_store((tmp_path / "store with space").as_uri())
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    return open_store(f"s3://{new_bucket(s3_environment)}/some/prefix")


def put(store: ObjectStore, key: str, data: bytes = b"x") -> None:
    store.replace(key, data, tag=MISSING)


def test_what_is_written_is_read(store: ObjectStore) -> None:
    put(store, "a/current.json", b"one")
    assert store.read("a/current.json").data == b"one"


def test_a_missing_object_is_named(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFoundError, match=f"{store.url}/a/none"):
        store.read("a/none")
    with pytest.raises(ObjectNotFoundError, match=f"{store.url}/a/none"):
        store.download("a/none", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_replacement_needs_the_tag_that_was_read(store: ObjectStore) -> None:
    put(store, "current.json", b"one")
    first = store.read("current.json")
    store.replace("current.json", b"two", tag=first.tag)
    with pytest.raises(ObjectChangedError):
        store.replace("current.json", b"three", tag=first.tag)
    assert store.read("current.json").data == b"two"


def test_creation_fails_when_the_object_exists(store: ObjectStore) -> None:
    put(store, "current.json", b"one")
    with pytest.raises(ObjectChangedError):
        put(store, "current.json", b"two")
    assert store.read("current.json").data == b"one"


def test_a_replacement_fails_when_the_object_is_gone(store: ObjectStore) -> None:
    put(store, "current.json")
    read = store.read("current.json")
    store.delete("current.json")
    with pytest.raises(ObjectChangedError):
        store.replace("current.json", b"two", tag=read.tag)


def test_of_many_writers_one_wins(store: ObjectStore) -> None:
    """Every writer has read the same version; the object is the winner's, and all others are told."""
    put(store, "current.json", b"start")
    tag = store.read("current.json").tag

    def write(number: int) -> int | None:
        try:
            store.replace("current.json", str(number).encode(), tag=tag)
        except ObjectChangedError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(write, range(16)) if number is not None]
    assert [store.read("current.json").data] == [str(number).encode() for number in winners]


def test_files_travel_unchanged(store: ObjectStore, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(range(256)) * 10_000)
    store.upload(source, "v1/factors.npy")
    store.download("v1/factors.npy", target)
    assert target.read_bytes() == source.read_bytes()


def test_a_download_takes_the_place_of_an_older_file(store: ObjectStore, tmp_path: Path) -> None:
    put(store, "v1/a", b"new")
    (tmp_path / "a").write_bytes(b"older and longer")
    store.download("v1/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_listing_is_sorted_and_by_prefix(store: ObjectStore) -> None:
    for key in ("v2/b", "v1/b", "v1/a", "v10/a", "current.json"):
        put(store, key)
    assert list(store.list("")) == ["current.json", "v1/a", "v1/b", "v10/a", "v2/b"]
    assert list(store.list("v1/")) == ["v1/a", "v1/b"]
    assert list(store.list("v1")) == ["v1/a", "v1/b", "v10/a"]
    assert list(store.list("v3/")) == []


def test_an_empty_store_lists_nothing(store: ObjectStore) -> None:
    assert list(store.list("")) == []


def test_a_deleted_object_is_gone_and_deleting_again_is_no_error(store: ObjectStore) -> None:
    put(store, "v1/a")
    store.delete("v1/a")
    store.delete("v1/a")
    assert list(store.list("")) == []


@pytest.mark.parametrize("key", ["../outside", "a/../../outside", "/outside"])
def test_a_key_cannot_leave_the_folder(tmp_path: Path, key: str) -> None:
    store = FileStore(tmp_path / "store")
    (tmp_path / "outside").write_bytes(b"secret")
    with pytest.raises(ValueError, match="leaves the store"):
        store.read(key)
    with pytest.raises(ValueError, match="leaves the store"):
        store.delete(key)
    with pytest.raises(ValueError, match="leaves the store"):
        put(store, key)


def test_a_write_that_fails_leaves_the_old_object_and_no_rest(tmp_path: Path) -> None:
    """The disk is full, or the process is told to stop, in the middle of a write."""
    store = FileStore(tmp_path)
    put(store, "current.json", b"one")
    with pytest.raises(TypeError):
        store.replace("current.json", 2, tag=store.read("current.json").tag)  # type: ignore[arg-type]  # cannot be written
    assert store.read("current.json").data == b"one"
    assert list(store.list("")) == ["current.json"]
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("current.json", ".lock")] == []


@pytest.mark.parametrize("url", ["", "models", "/models", "http://host/models", "file://host/models", "s3:///models"])
def test_other_urls_are_refused_by_name(url: str) -> None:
    with pytest.raises(ValueError, match="is neither file:///folder nor s3://bucket/prefix"):
        open_store(url)


def test_urls_name_their_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    assert isinstance(open_store("file:///models"), FileStore)
    bucket = open_store("s3://bucket/models/")
    assert isinstance(bucket, S3Store)
    assert bucket.url == "s3://bucket/models"
