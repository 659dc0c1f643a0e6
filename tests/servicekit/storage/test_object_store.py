"""Both stores keep the same promises: folders of this machine, and buckets of a real S3 server."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from servicekit.storage.object_store import (
    MISSING,
    FileStore,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectStore,
    S3Store,
    StoreError,
    open_store,
)
from tests.support.s3 import CREDENTIALS, new_bucket, s3_server, seaweedfs_server
from tests.support.s3_faults import Fault, Faults, Kind, faulty

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def s3_environment() -> Iterator[dict[str, str]]:
    with s3_server() as environment:
        yield environment


@pytest.fixture(scope="module")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with seaweedfs_server(tmp_path_factory.mktemp("seaweedfs")) as environment:
        yield environment


@pytest.fixture(params=["file", "s3_environment", "seaweedfs"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """A store of each kind, empty."""
    if request.param == "file":
        return open_store((tmp_path / "store with space").as_uri())
    environment: dict[str, str] = request.getfixturevalue(request.param)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return open_store(f"s3://{new_bucket(environment)}/some/prefix")


@contextmanager
def beset(environment: dict[str, str], patch: pytest.MonkeyPatch, *planned: Fault) -> Iterator[tuple[S3Store, Faults]]:
    """Yield an empty store that is soon out of patience, behind a proxy that does this to it."""
    with faulty(environment) as (way, faults):
        for name, value in way.items():
            patch.setenv(name, value)
        bucket = new_bucket(environment)
        faults.planned = [*planned]
        yield S3Store(bucket, "models", read_s=0.5, attempts=2), faults


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


def test_of_many_creators_one_wins(store: ObjectStore, tmp_path: Path) -> None:
    """The object is the winner's, whole, and all others are told."""

    def write(number: int) -> int | None:
        source = tmp_path / str(number)
        source.write_bytes(str(number).encode() * 100_000)
        try:
            store.create(source, "v1/factors.npy")
        except ObjectChangedError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(write, range(8)) if number is not None]
    assert [store.read("v1/factors.npy").data] == [str(number).encode() * 100_000 for number in winners]
    assert list(store.list("")) == ["v1/factors.npy"]


def test_a_winner_whose_reply_was_lost_is_told_that_it_won(
    s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks after the server wrote: the second try fails on the object of the first."""
    lost = Fault(kind=Kind.LOST, method="PUT", path="current.json", times=1)
    with beset(s3_environment, monkeypatch, lost) as (store, faults):
        put(store, "current.json", b"mine")
        assert faults.happened == [Kind.LOST]
        with pytest.raises(ObjectChangedError):
            put(store, "current.json", b"yours")
        assert store.read("current.json").data == b"mine"


@pytest.mark.parametrize("kind", Kind)
def test_a_reply_that_fails_once_is_asked_for_again(
    s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: Kind
) -> None:
    fault = Fault(kind=kind, method="GET", path="a", times=0)
    with beset(s3_environment, monkeypatch, fault) as (store, faults):
        put(store, "a", b"x" * 10_000)
        fault.times = 1
        assert store.read("a").data == b"x" * 10_000
        fault.times = 1
        store.download("a", tmp_path / "a")
        assert (tmp_path / "a").read_bytes() == b"x" * 10_000
        assert faults.happened == [kind, kind]


@pytest.mark.parametrize("kind", Kind)
def test_a_reply_that_fails_each_time_is_an_error_that_names_the_object(
    s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: Kind
) -> None:
    fault = Fault(kind=kind, method="GET", path="a")
    with beset(s3_environment, monkeypatch, fault) as (store, _):
        put(store, "a")
        for attempt in (lambda: store.read("a"), lambda: store.download("a", tmp_path / "a")):
            with pytest.raises(StoreError, match=f"^{store.url}/a: (?!Max Retries)"):
                attempt()
    assert not (tmp_path / "a").exists()


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes connections, as a hung one does; each try ends with its time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = CREDENTIALS | {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        store = S3Store("bucket", "models", connect_s=0.2, read_s=0.2, attempts=2)
        begin = time.monotonic()
        with pytest.raises(StoreError, match=r"^s3://bucket/models/current\.json: Read timeout"):
            store.read("current.json")
        assert time.monotonic() - begin < 30


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


@pytest.mark.parametrize(
    "url", ["", "models", "/models", "http://host/models", "s3:/models", "file:models", "file://localhost"]
)
def test_other_urls_are_refused_by_name(url: str) -> None:
    with pytest.raises(ValueError, match="is neither file:///folder nor s3://bucket/prefix"):
        open_store(url)


def test_urls_name_their_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    assert isinstance(open_store("file:///models"), FileStore)
    bucket = open_store("s3://bucket/models/")
    assert isinstance(bucket, S3Store)
    assert bucket.url == "s3://bucket/models"
