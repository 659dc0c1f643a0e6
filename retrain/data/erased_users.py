"""Lists users who must not be trained on, whatever older exports hold: beside the exports, and in the model store.

Both hold fingerprints and the times (milliseconds since 1970 UTC) up to which all is forgotten.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from modelstore import erased_users
from modelstore.erased_users import MAX_BYTES
from servicekit.inputs.json_fields import JsonObject
from servicekit.storage.object_store import MISSING, ObjectChangedError, ObjectNotFoundError, ObjectStore

KEY: Final = "erased.json"
"""The list beside the exports, written by each export."""
SERVERS_KEY: Final = erased_users.KEY
"""The list in the model store, written by DeleteUserProfile."""
ATTEMPTS: Final = 10


def read_erasures(store: ObjectStore, key: str = KEY) -> dict[bytes, int]:
    """Return a list of erased users; empty if there is none."""
    return _read(store, key)[0]


def add_erasures(store: ObjectStore, erased: Mapping[bytes, int]) -> None:
    """Add users to the list beside the exports, from which nobody is ever removed."""
    for _ in range(ATTEMPTS):
        known, tag = _read(store, KEY)
        merged = merge(known, erased)
        if merged == known:
            return
        try:
            store.replace(KEY, encode(merged), tag=tag)
        except ObjectChangedError:
            continue
        return
    raise OSError(f"{store.url}/{KEY} changed during each attempt to write it: try again")


def merge(*lists: Mapping[bytes, int]) -> dict[bytes, int]:
    """Return all users, each with the latest time."""
    merged: dict[bytes, int] = {}
    for one in lists:
        for mark, at_ms in one.items():
            merged[mark] = max(at_ms, merged.get(mark, at_ms))
    return merged


def encode(marks: Mapping[bytes, int]) -> bytes:
    """Return a list as stored; the same bytes for the same users."""
    return json.dumps({mark.hex(): at_ms for mark, at_ms in sorted(marks.items())}, indent=0).encode()


def decode(data: bytes) -> dict[bytes, int]:
    """Return the list in stored bytes."""
    fields = JsonObject(data, max_bytes=MAX_BYTES)
    return {bytes.fromhex(mark): fields.whole(mark) for mark in fields.names()}


def local_list(interactions: ObjectStore, models: ObjectStore, folder: Path) -> Path | None:
    """Write both lists into one file of the folder and return it; None if no user is erased."""
    marks = merge(read_erasures(interactions), read_erasures(models, SERVERS_KEY))
    if not marks:
        return None
    path = folder / KEY
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(marks))
    return path


def _read(store: ObjectStore, key: str) -> tuple[dict[bytes, int], str]:
    try:
        content = store.read(key)
    except ObjectNotFoundError:
        return {}, MISSING
    try:
        return decode(content.data), content.tag
    except (ValueError, AttributeError) as error:
        raise OSError(f"{store.url}/{key} is no list of erased users: {error}") from None
