"""Stores objects under a URL, `file:///folder` or `s3://bucket/prefix`, with the same promises on both.

An object appears whole or not at all. `replace` is a compare-and-swap, so of two writers one wins.
S3 is reached by boto3's usual configuration (`AWS_*`, `AWS_ENDPOINT_URL_S3` for other servers).
"""

import base64
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from servicekit.files.lock import FOR_EVER, FileLock
from servicekit.files.replacement import creating, replacing
from servicekit.storage.store_url import Bucket, Folder, read_store_url

CONNECT_S: Final = 3.0
READ_S: Final = 20.0
ATTEMPTS: Final = 4
"""With a server that takes connections and never answers, a call ends after 4 x 20 s and some pauses."""
_CHANGED: Final = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey")
_NOT_FOUND: Final = ("404", "NoSuchKey")

_NO_OBJECT: Final = (FileNotFoundError, NotADirectoryError)
"""What a path raises where no file stands, also below another file."""

MISSING: Final = ""
"""The tag of an object that does not exist, for `replace`."""


class StoreError(OSError):
    """The store is out of reach or refuses; the message names the object."""


class ObjectNotFoundError(Exception):
    """No object has this key."""


class ObjectChangedError(Exception):
    """The object changed since the caller read it: another writer won."""


@dataclass(frozen=True, slots=True)
class Content:
    """The content of an object, with the tag that `replace` compares."""

    data: bytes
    tag: str


class ObjectStore(Protocol):
    """Objects by key; a key is a relative path with `/`. All methods raise OSError when disk or server fails them."""

    url: str

    def read(self, key: str) -> Content:
        """Return a small object; ObjectNotFoundError if it does not exist."""

    def replace(self, key: str, data: bytes, *, tag: str) -> None:
        """Write a small object if its tag is still this (`MISSING`: if it does not exist), else ObjectChangedError."""

    def download(self, key: str, path: Path) -> None:
        """Copy an object to a file; ObjectNotFoundError if it does not exist."""

    def upload(self, path: Path, key: str) -> None:
        """Copy a file to an object, checked by SHA-256 on the way."""

    def create(self, path: Path, key: str) -> None:
        """Copy a file to a new object, as `upload` does; ObjectChangedError if it exists."""

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with the prefix, in order."""

    def delete(self, key: str) -> None:
        """Remove an object; do nothing if it does not exist."""


def open_store(url: str) -> ObjectStore:
    """Return the store at a `file://` or `s3://` URL, read as `store_url` says; ValueError for any other."""
    match read_store_url(url):
        case Folder(path):
            return FileStore(path)
        case Bucket(name, prefix):
            return S3Store(name, prefix)


class FileStore:
    """Objects as files below a folder, which is made on the first write."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.url = self.root.as_uri()

    def read(self, key: str) -> Content:
        """Return a small object; ObjectNotFoundError if it does not exist."""
        try:
            data = self._path(key).read_bytes()
        except _NO_OBJECT:
            raise ObjectNotFoundError(f"{self.url}/{key}") from None
        return Content(data, hashlib.sha256(data).hexdigest())

    def replace(self, key: str, data: bytes, *, tag: str) -> None:
        """Write a small object if its tag is still this (`MISSING`: if it does not exist), else ObjectChangedError."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / ".lock", patience_s=FOR_EVER):  # compare-and-swap needs a moment without writers
            try:
                current = self.read(key).tag
            except ObjectNotFoundError:
                current = MISSING
            if current != tag:
                raise ObjectChangedError(f"{self.url}/{key}")
            with replacing(path) as temporary:
                temporary.write_bytes(data)

    def download(self, key: str, path: Path) -> None:
        """Copy an object to a file; ObjectNotFoundError if it does not exist."""
        try:
            source = self._path(key).open("rb")
        except _NO_OBJECT:
            raise ObjectNotFoundError(f"{self.url}/{key}") from None
        with source, replacing(path) as temporary:
            _copy(source.fileno(), temporary)

    def upload(self, path: Path, key: str) -> None:
        """Copy a file to an object."""
        self._take(path, key, replacing)

    def create(self, path: Path, key: str) -> None:
        """Copy a file to a new object; ObjectChangedError if it exists."""
        try:
            self._take(path, key, creating)
        except FileExistsError:
            raise ObjectChangedError(f"{self.url}/{key}") from None

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with the prefix, in order."""
        folder = self._path(prefix.rpartition("/")[0]) if "/" in prefix else self.root
        keys = (path.relative_to(self.root).as_posix() for path in folder.rglob("*") if path.is_file())
        yield from sorted(key for key in keys if key.startswith(prefix) and not Path(key).name.startswith("."))

    def delete(self, key: str) -> None:
        """Remove an object; do nothing if it does not exist."""
        self._path(key).unlink(missing_ok=True)

    def _take(self, path: Path, key: str, place: Callable[[Path], AbstractContextManager[Path]]) -> None:
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as source, place(target) as temporary:
            _copy(source.fileno(), temporary)

    def _path(self, key: str) -> Path:
        if key.startswith("/") or ".." in key.split("/"):
            raise ValueError(f"{key!r} leaves the store")
        return self.root / key


def _copy(source: int, target: Path) -> None:
    size = os.fstat(source).st_size
    with target.open("wb") as handle:
        done = 0
        while done < size:
            sent = os.sendfile(handle.fileno(), source, done, size - done)
            if sent == 0:
                raise OSError(f"{target} was cut short while it was copied")
            done += sent


class S3Store:
    """Objects of an S3 bucket below a prefix.

    Args:
        bucket: The bucket.
        prefix: What all keys begin with, without slashes around it.
        connect_s: Seconds to wait for a connection.
        read_s: Seconds to wait for the next bytes of a reply.
        attempts: Tries of each request, the first one included.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str,
        *,
        connect_s: float = CONNECT_S,
        read_s: float = READ_S,
        attempts: int = ATTEMPTS,
    ) -> None:
        import boto3  # noqa: PLC0415  # slow to import, and not needed for files
        from botocore.config import Config  # noqa: PLC0415

        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._attempts = attempts
        config = Config(
            connect_timeout=connect_s,
            read_timeout=read_s,
            retries={"mode": "standard", "total_max_attempts": attempts},
        )
        with self._told(""):
            self._client: Any = boto3.client("s3", config=config)

    def read(self, key: str) -> Content:
        """Return a small object; ObjectNotFoundError if it does not exist."""
        from botocore.exceptions import HTTPClientError, IncompleteReadError  # noqa: PLC0415

        with self._told(key):
            left = self._attempts
            while True:
                reply = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
                try:
                    return Content(reply["Body"].read(), reply["ETag"])
                except (HTTPClientError, IncompleteReadError):  # boto3 tries requests again, not bodies
                    left -= 1
                    if not left:
                        raise

    def replace(self, key: str, data: bytes, *, tag: str) -> None:
        """Write a small object if its tag is still this (`MISSING`: if it does not exist), else ObjectChangedError."""
        condition = {"IfNoneMatch": "*"} if tag == MISSING else {"IfMatch": tag}
        with self._told(key), self._changed(key, lambda: self.read(key).data == data):
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data, **condition)

    def download(self, key: str, path: Path) -> None:
        """Copy an object to a file; ObjectNotFoundError if it does not exist."""
        with self._told(key), replacing(path) as temporary:
            self._client.download_file(self._bucket, self._prefix + key, str(temporary))

    def upload(self, path: Path, key: str) -> None:
        """Copy a file to an object, checked by SHA-256 on the way."""
        with self._told(key):
            self._put(path, key)

    def create(self, path: Path, key: str) -> None:
        """Copy a file to a new object; ObjectChangedError if it exists."""
        with self._told(key), self._changed(key, lambda: False):
            self._put(path, key, IfNoneMatch="*")

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with the prefix, in order."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        with self._told(prefix):
            for page in pages:
                for item in page.get("Contents", ()):
                    yield item["Key"].removeprefix(self._prefix)

    def delete(self, key: str) -> None:
        """Remove an object; do nothing if it does not exist."""
        with self._told(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def _put(self, path: Path, key: str, **condition: str) -> None:
        with path.open("rb") as body:
            digest = hashlib.file_digest(body, "sha256").digest()
            body.seek(0)
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._prefix + key,
                Body=body,
                ChecksumSHA256=base64.b64encode(digest).decode(),
                **condition,
            )

    @contextmanager
    def _changed(self, key: str, is_written: Callable[[], bool]) -> Iterator[None]:
        """Convert a failed condition to ObjectChangedError.

        Where the request was tried again, an earlier try may have been the winner whose reply was lost.
        """
        from botocore.exceptions import ClientError  # noqa: PLC0415

        try:
            yield
        except ClientError as error:
            if error.response["Error"]["Code"] not in _CHANGED:
                raise
            if error.response["ResponseMetadata"].get("RetryAttempts") and is_written():
                return
            raise ObjectChangedError(f"{self.url}/{key}") from None

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        """Convert exceptions of boto3 to those of this module."""
        from boto3.exceptions import Boto3Error  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
        from s3transfer.exceptions import S3DownloadFailedError, S3ValidationError  # noqa: PLC0415

        try:
            yield
        except (ClientError, Boto3Error, BotoCoreError, S3DownloadFailedError, S3ValidationError) as error:
            if isinstance(error, ClientError) and error.response["Error"]["Code"] in _NOT_FOUND:
                raise ObjectNotFoundError(f"{self.url}/{key}") from None
            raise StoreError(f"{self.url}/{key}: {getattr(error, 'last_exception', error)}") from error
