"""Records that Kafka did not take: a worker keeps them on disk, until the follower sends them to Kafka.

A store of its own, each commit of which is on disk before it returns: what is in it was acknowledged.
"""

import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from weakref import WeakValueDictionary
from zlib import crc32

import lmdb

from recsvc.live_state.store import PATIENCE_S, StoreError
from recsvc.live_state.turns import POLL_S
from servicekit.files.lock import FileLock
from servicekit.files.replacement import PRIVATE

FOLDER: Final = "pending"
"""Of the folder of the store."""
LOCK: Final = "pending.lock"
MAX_BYTES: Final = 1 << 30
"""Of what waits; more is refused."""
MAX_READERS: Final = 1024

_NUMBER: Final = struct.Struct(">Q")
_HEAD: Final = struct.Struct("<IH")
"""Checksum of the rest, and how many texts follow."""
_LENGTH: Final = struct.Struct("<i")
_TOO_LONG: Final = "somebody else writes what waits for Kafka for too long"
_NOTHING: Final = -1
"""Length of a value that is null, as a tombstone's is."""

Headers = Sequence[tuple[str, bytes]]


class Waiting(NamedTuple):
    """A record that Kafka is to get."""

    place: bytes
    """In the order of time; names it to `remove`."""
    topic: str
    key: bytes
    value: bytes | None
    headers: Headers


class _Environment:
    """A folder's environment, which a process opens once."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.writing = threading.Lock()
        self.lmdb = lmdb.Environment(
            str(folder), map_size=max_bytes, max_readers=MAX_READERS, mode=0o600, readahead=False
        )


_open: "WeakValueDictionary[Path, _Environment]" = WeakValueDictionary()
_opening: Final = threading.Lock()


class Pending:
    """The records of a folder that wait for Kafka, for many threads and processes.

    Args:
        folder: Of the store.
        max_bytes: Room for records.
    """

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        (folder / FOLDER).mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._environment = _opened(folder / FOLDER, max_bytes)
        self._lmdb = self._environment.lmdb

    def add(self, topic: str, key: bytes, value: bytes | None, headers: Headers = ()) -> None:
        """Keep a record, on disk when this returns; StoreError when it cannot be, and then nothing is kept."""
        packed = _packed(topic, key, value, headers)
        with self._turn():
            try:
                with self._lmdb.begin(write=True) as transaction:
                    with transaction.cursor() as cursor:
                        before = _NUMBER.unpack(cursor.key())[0] if cursor.last() else 0
                    transaction.put(_NUMBER.pack(before + 1), packed, append=True)
            except lmdb.Error as error:
                raise StoreError(f"what waits for Kafka cannot be written: {error}") from error

    def oldest(self, most: int) -> list[Waiting]:
        """Return the oldest records, at most so many; what the disk changed is not among them."""
        found: list[Waiting] = []
        with self._lmdb.begin() as transaction, transaction.cursor() as cursor:
            for place, packed in cursor:
                if len(found) >= most:
                    break
                record = _read(bytes(place), bytes(packed))
                if record:
                    found.append(record)
        return found

    def damaged(self, most: int) -> list[bytes]:
        """Return the places of records that the disk changed, at most so many."""
        with self._lmdb.begin() as transaction, transaction.cursor() as cursor:
            found = (bytes(place) for place, packed in cursor if _read(bytes(place), bytes(packed)) is None)
            return [place for place, _ in zip(found, range(most), strict=False)]

    def remove(self, places: Iterable[bytes]) -> None:
        """Drop records that Kafka has; StoreError when the disk refuses, and they are sent again."""
        with self._turn():
            try:
                with self._lmdb.begin(write=True) as transaction:
                    for place in places:
                        transaction.delete(place)
            except lmdb.Error as error:
                raise StoreError(f"what waits for Kafka cannot be written: {error}") from error

    def __len__(self) -> int:
        count: int = self._lmdb.stat()["entries"]
        return count

    def clear_dead_readers(self) -> None:
        """Give back what processes held that died while they read."""
        self._lmdb.reader_check()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Take turns with other writers, in vain after a while: LMDB would wait for one that is stopped for ever.

        One thread of a process at a time asks the other processes, which costs more.
        """
        if not self._environment.writing.acquire(timeout=PATIENCE_S):
            raise StoreError(_TOO_LONG)
        try:
            with FileLock(self._folder / LOCK, patience_s=PATIENCE_S, mode=PRIVATE, poll_s=POLL_S):
                yield
        except BlockingIOError:
            raise StoreError(_TOO_LONG) from None
        finally:
            self._environment.writing.release()


def _opened(folder: Path, max_bytes: int) -> _Environment:
    with _opening:
        known = _open.get(folder.resolve())
        if known is None:
            known = _open[folder.resolve()] = _Environment(folder, max_bytes)
        return known


def _packed(topic: str, key: bytes, value: bytes | None, headers: Headers) -> bytes:
    texts = [topic.encode(), key, value]
    for name, content in headers:
        texts += [name.encode(), content]
    body = b"".join(_LENGTH.pack(_NOTHING if text is None else len(text)) + (text or b"") for text in texts)
    return _HEAD.pack(crc32(body), len(texts)) + body


def _read(place: bytes, packed: bytes) -> Waiting | None:
    """Return the record that was packed; None when these are not the bytes that were."""
    try:
        checksum, count = _HEAD.unpack_from(packed)
    except struct.error:
        return None
    body = packed[_HEAD.size :]
    if crc32(body) != checksum:
        return None
    texts: list[bytes | None] = []
    at = 0
    for _ in range(count):
        length: int = _LENGTH.unpack_from(body, at)[0]
        at += _LENGTH.size
        texts.append(None if length == _NOTHING else body[at : at + length])
        at += max(0, length)
    topic, key, value, *rest = texts
    names, contents = rest[::2], rest[1::2]
    headers = [((name or b"").decode(), content or b"") for name, content in zip(names, contents, strict=True)]
    return Waiting(place, (topic or b"").decode(), key or b"", value, headers)
