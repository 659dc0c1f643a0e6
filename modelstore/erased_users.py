"""Keeps the list of erased users in the model store, so that every server knows them from its start.

One small object holds fingerprints of users and the times (milliseconds since 1970 UTC) up to which all is forgotten.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import structlog

from servicekit.grpc.errors import unavailable
from servicekit.inputs.json_fields import JsonObject
from servicekit.storage.object_store import MISSING, ObjectChangedError, ObjectNotFoundError, ObjectStore

KEY: Final = "forgotten.json"
ATTEMPTS: Final = 10
RETRY_AFTER_S: Final = 1.0
MAX_BYTES: Final = 256 * 2**20
"""Of the list; five million users."""

logger = structlog.get_logger(__name__)


class ErasedUsers:
    """The list of erased users of one store.

    Args:
        store: Where models are published.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._seen_tag = MISSING

    def add(self, mark: bytes, at_ms: int) -> None:
        """Add a user; UNAVAILABLE when the store cannot be written, so that the caller tries again."""
        try:
            for _ in range(ATTEMPTS):
                data, tag = self._read()
                entries = _entries(data)
                entries[mark.hex()] = max(at_ms, _marks(entries).get(mark, at_ms))
                try:
                    self._store.replace(KEY, _encode(entries), tag=tag)
                except ObjectChangedError:
                    continue
                return
        except Exception as error:  # noqa: BLE001  # each kind of store raises errors of its own
            logger.warning("forgotten.write_failed", problem=f"{type(error).__name__}: {error}")
        raise unavailable(
            "STORE_UNAVAILABLE",
            "forgotten on this server; the store that tells the others cannot be written",
            retry_after_s=RETRY_AFTER_S,
        )

    def marks(self) -> dict[bytes, int] | None:
        """Return the list where it changed since it was last asked for, else None; the store's own error."""
        data, tag = self._read()
        if tag == self._seen_tag:
            return None
        marks = _marks(_entries(data))
        self._seen_tag = tag
        return marks

    def merge(self, marks: Mapping[bytes, int]) -> None:
        """Add many users at once; ObjectChangedError while others do so again and again, or the store's own error."""
        for attempt in range(ATTEMPTS):
            data, tag = self._read()
            entries = _entries(data)
            known = _marks(entries)
            new = {mark: at_ms for mark, at_ms in marks.items() if at_ms > known.get(mark, -1)}
            if not new:
                return
            entries |= {mark.hex(): at_ms for mark, at_ms in new.items()}
            try:
                self._store.replace(KEY, _encode(entries), tag=tag)
            except ObjectChangedError:
                if attempt == ATTEMPTS - 1:
                    raise
                continue
            return

    def _read(self) -> tuple[bytes, str]:
        try:
            content = self._store.read(KEY)
        except ObjectNotFoundError:
            return b"{}", MISSING
        return content.data, content.tag


def _entries(data: bytes) -> dict[str, Any]:
    """Return the entries as stored; ValueError when the content is no list."""
    fields = JsonObject(data, max_bytes=MAX_BYTES)
    return {name: fields.value(name) for name in fields.names()}


def _marks(entries: Mapping[str, Any]) -> dict[bytes, int]:
    """Return the fingerprints and times; skip entries that are neither, maybe of a later release."""
    marks, odd = {}, 0
    for name, at_ms in entries.items():
        try:
            mark = bytes.fromhex(name)
        except ValueError:
            mark = b""
        if mark and type(at_ms) is int:
            marks[mark] = at_ms
        else:
            odd += 1
    if odd:
        logger.warning("forgotten.entries_unreadable", entries=odd)
    return marks


def _encode(entries: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(sorted(entries.items())), indent=0).encode()
