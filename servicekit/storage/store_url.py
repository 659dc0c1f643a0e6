"""Parses the URL of a store into exactly one place, or refuses it.

    file:///folder        after the scheme, each %XX stands for a byte, as in every file URL; `#`, `?` and a `%` that
                          begins no %XX are refused, for readers differ in what they make of them
    s3://bucket/prefix    all that follows the bucket is the prefix as it stands: `#`, `?` and `%` mean themselves, as
                          they do to the tools of S3

`urlsplit` is of no use here: it takes what follows `#` and `?` away, and line breaks and tabs out of the middle.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import unquote_to_bytes

_LOCAL: Final = ("", "localhost")
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_HALF_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of this machine."""

    path: Path


@dataclass(frozen=True, slots=True)
class Bucket:
    """A prefix in a bucket of S3."""

    name: str
    prefix: str
    """Without slashes around it."""


Place: TypeAlias = Folder | Bucket


def read_store_url(url: str) -> Place:
    """Return the place of a `file://` or `s3://` URL; ValueError says why it names none."""
    if _CONTROL.search(url):
        raise ValueError(f"{url!r} holds a control character")
    scheme, separator, rest = url.partition(":")
    if separator and scheme.lower() == "file":
        return _folder(url, rest)
    if separator and scheme.lower() == "s3" and rest.startswith("//"):
        return _bucket(url, rest.removeprefix("//"))
    raise ValueError(f"{url!r} is neither file:///folder nor s3://bucket/prefix")


def check_store_url(url: str) -> str:
    """Return the URL unchanged; ValueError as `read_store_url` does."""
    read_store_url(url)
    return url


def _folder(url: str, rest: str) -> Folder:
    path = rest
    if rest.startswith("//"):
        host, slash, below = rest.removeprefix("//").partition("/")
        path = slash + below
        if host.lower() not in _LOCAL:
            raise ValueError(f"{url!r} names the host {host!r}: a folder of this machine is file:///folder")
    if not path.startswith("/"):
        raise ValueError(f"{url!r} is neither file:///folder nor s3://bucket/prefix")
    for character, written in (("#", "%23"), ("?", "%3F")):
        if character in path:
            raise ValueError(f"{url!r}: {character} must be written {written} in a file URL")
    if _HALF_ESCAPE.search(path):
        raise ValueError(f"{url!r}: % must be written %25 in a file URL")
    folder = unquote_to_bytes(path)
    if b"\x00" in folder:
        raise ValueError(f"{url!r}: no folder has %00 in its name")
    if not folder.strip(b"/"):
        raise ValueError(f"{url!r} names no folder: the root of all is no store")
    return Folder(Path(os.fsdecode(folder)))


def _bucket(url: str, rest: str) -> Bucket:
    name, _, prefix = rest.partition("/")
    if not _BUCKET.fullmatch(name):
        raise ValueError(f"{url!r} is no s3://bucket/prefix: {name!r} is no name of a bucket")
    prefix = prefix.removesuffix("/")
    if prefix and "" in prefix.split("/"):
        raise ValueError(f"{url!r}: the prefix begins or ends with a slash, or has two in a row")
    return Bucket(name, prefix)
