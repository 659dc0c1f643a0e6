"""A URL names exactly one place, or is refused with the reason."""

import os
from pathlib import Path

import pytest

from servicekit.storage.object_store import MISSING, FileStore, S3Store, open_store
from servicekit.storage.store_url import Bucket, Folder, read_store_url
from tests.support.s3 import CREDENTIALS, new_bucket, s3_server

ODD_NAMES = [
    "feed#2",
    "feed?a=b",
    "100%",
    "a%20b",
    "a b",
    "ünï",
    "[x]*",
    "videoId=all",
    "back\\slash",
    "'quoted'",
    "~",
    ";&$x",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_every_folder_has_a_url_that_names_it(tmp_path: Path, name: str) -> None:
    """What is written through the URL stands in the folder, and nowhere else."""
    store = open_store((tmp_path / name).as_uri())
    assert isinstance(store, FileStore)
    store.replace("day/key#?%41.txt", b"x", tag=MISSING)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "day" / "key#?%41.txt").read_bytes() == b"x"
    assert list(open_store(store.url).list("")) == ["day/key#?%41.txt"]


def test_a_folder_whose_name_is_not_utf8_has_a_url_too(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    assert read_store_url(path.as_uri()) == Folder(path)


@pytest.mark.peer
def test_what_follows_a_bucket_is_the_prefix_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() as environment:
        for variable, value in (environment | CREDENTIALS).items():
            monkeypatch.setenv(variable, value)
        bucket = new_bucket(environment)
        for name in ODD_NAMES:
            store = open_store(f"s3://{bucket}/{name}/models")
            assert isinstance(store, S3Store)
            store.replace("key#?%41", b"x", tag=MISSING)
            assert list(store.list("")) == ["key#?%41"]
        assert set(open_store(f"s3://{bucket}").list("")) == {f"{name}/models/key#?%41" for name in ODD_NAMES}


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("file:///a%20b/c", Folder(Path("/a b/c"))),
        ("file:///a b/ü", Folder(Path("/a b/ü"))),
        ("file:///a%2520b", Folder(Path("/a%20b"))),
        ("file:///a%23b%3F", Folder(Path("/a#b?"))),
        ("file://localhost/a", Folder(Path("/a"))),
        ("FILE:/a", Folder(Path("/a"))),
        ("s3://bucket", Bucket("bucket", "")),
        ("s3://bucket/", Bucket("bucket", "")),
        ("s3://bucket/a%20b/", Bucket("bucket", "a%20b")),
        ("S3://bucket/a#b?c", Bucket("bucket", "a#b?c")),
    ],
)
def test_how_urls_are_read(url: str, place: Folder | Bucket) -> None:
    assert read_store_url(url) == place


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("file:///feed#2/exports", "# must be written %23 in a file URL"),
        ("file:///feed?2/exports", "? must be written %3F in a file URL"),
        ("file:///100%/exports", "% must be written %25 in a file URL"),
        ("file:///a%0", "% must be written %25 in a file URL"),
        ("file:///a%00b", "no folder has %00 in its name"),
        ("file://host/models", "names the host 'host': a folder of this machine is file:///folder"),
        ("file:///a\nb", "holds a control character"),
        ("s3://bucket/a\tb", "holds a control character"),
        ("s3://bucket//a", "the prefix begins or ends with a slash, or has two in a row"),
        ("s3://bucket/a//", "the prefix begins or ends with a slash, or has two in a row"),
        ("s3://user@host/a", "'user@host' is no name of a bucket"),
        ("s3://[bucket/a", "'[bucket' is no name of a bucket"),
        ("s3://bucket#a", "'bucket#a' is no name of a bucket"),
        ("s3://", "'' is no name of a bucket"),
        ("https://bucket/a", "is neither file:///folder nor s3://bucket/prefix"),
        ("file:models", "is neither file:///folder nor s3://bucket/prefix"),
        ("", "is neither file:///folder nor s3://bucket/prefix"),
    ],
)
def test_what_names_no_place_is_refused_with_the_reason(url: str, problem: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # its text is compared
        read_store_url(url)
    assert problem in str(caught.value)
