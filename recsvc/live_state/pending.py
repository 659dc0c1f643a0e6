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
import structlog

from recsvc.live_state.environment import DATA
from recsvc.live_state.environment import LOCK as LMDB_LOCK
from recsvc.live_state.profile import DamagedError
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

logger = structlog.get_logger(__name__)

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
    """A folder's environment, which a process opens once; DamagedError where its file is cut."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.lmdb = lmdb.Environment(
            str(folder), map_size=max_bytes, max_readers=MAX_READERS, mode=0o600, readahead=False
        )
        self._file = folder / DATA
        self._opened = _identity(self._file)
        if self._opened is None or self._opened.bytes < (self.lmdb.info()["last_pgno"] + 1) * self.lmdb.stat()["psize"]:
            raise DamagedError(f"{self._file} ends before its last page")

    @property
    def is_there(self) -> bool:
        """Return whether the folder still has the file that was opened: whoever found it damaged put it aside."""
        found = _identity(self._file)
        return found is not None and self._opened is not None and found.inode == self._opened.inode


class _Identity(NamedTuple):
    inode: int
    bytes: int


def _identity(file: Path) -> _Identity | None:
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return _Identity(status.st_ino, status.st_size)


_open: "WeakValueDictionary[Path, _Environment]" = WeakValueDictionary()
_opening: Final = threading.Lock()


class Pending:
    """The records of a folder that wait for Kafka, for many threads and processes.

    Args:
        folder: Of the store.
        max_bytes: Room for records.
    """

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._writing = threading.Lock()
        self._environment: _Environment | None = None
        with self._turn():
            pass

    def add(self, topic: str, key: bytes, value: bytes | None, headers: Headers = ()) -> None:
        """Keep a record, on disk when this returns; StoreError when it cannot be, and then nothing is kept."""
        packed = _packed(topic, key, value, headers)
        with self._turn() as environment:
            try:
                with environment.lmdb.begin(write=True) as transaction:
                    with transaction.cursor() as cursor:
                        before = _NUMBER.unpack(cursor.key())[0] if cursor.last() else 0
                    transaction.put(_NUMBER.pack(before + 1), packed, append=True)
            except lmdb.Error as error:
                raise StoreError(f"what waits for Kafka cannot be written: {error}") from error

    def oldest(self, most: int) -> list[Waiting]:
        """Return the oldest records, at most so many; what the disk changed is not among them."""
        found: list[Waiting] = []
        with self._current().lmdb.begin() as transaction, transaction.cursor() as cursor:
            for place, packed in cursor:
                if len(found) >= most:
                    break
                record = _read(bytes(place), bytes(packed))
                if record:
                    found.append(record)
        return found

    def damaged(self, most: int) -> list[bytes]:
        """Return the places of records that the disk changed, at most so many."""
        with self._current().lmdb.begin() as transaction, transaction.cursor() as cursor:
            found = (bytes(place) for place, packed in cursor if _read(bytes(place), bytes(packed)) is None)
            return [place for place, _ in zip(found, range(most), strict=False)]

    def remove(self, places: Iterable[bytes]) -> None:
        """Drop records that Kafka has; StoreError when the disk refuses, and they are sent again.

        With the last one the file goes: its free pages would hold what users did who are forgotten later.
        """
        with self._turn() as environment:
            try:
                with environment.lmdb.begin(write=True) as transaction:
                    dropped = sum(transaction.delete(place) for place in places)
            except lmdb.Error as error:
                raise StoreError(f"what waits for Kafka cannot be written: {error}") from error
            if dropped and not environment.lmdb.stat()["entries"]:
                _remove(self._folder / FOLDER)

    def __len__(self) -> int:
        count: int = self._current().lmdb.stat()["entries"]
        return count

    def clear_dead_readers(self) -> None:
        """Give back what processes held that died while they read."""
        self._current().lmdb.reader_check()

    def _current(self) -> _Environment:
        """Return the environment of the file that is in the folder now."""
        known = self._environment
        if known is not None and known.is_there:
            return known
        with self._turn() as environment:
            return environment

    @contextmanager
    def _turn(self) -> Iterator[_Environment]:
        """Take turns with other writers, in vain after a while: LMDB would wait for one that is stopped for ever.

        One thread of a process at a time asks the other processes, which costs more.
        """
        if not self._writing.acquire(timeout=PATIENCE_S):
            raise StoreError(_TOO_LONG)
        try:
            with FileLock(self._folder / LOCK, patience_s=PATIENCE_S, mode=PRIVATE, poll_s=POLL_S):
                self._environment = _opened(self._folder / FOLDER, self._max_bytes)
                yield self._environment
        except BlockingIOError:
            raise StoreError(_TOO_LONG) from None
        finally:
            self._writing.release()


def _opened(folder: Path, max_bytes: int) -> _Environment:
    """Return the environment of a folder, an empty one in the place of one that is damaged; the caller has the turn.

    StoreError when it cannot be opened now.
    """
    with _opening:
        known = _open.get(folder.resolve())
        if known is None or not known.is_there:
            known = _open[folder.resolve()] = _sound(folder, max_bytes)
        return known


def _sound(folder: Path, max_bytes: int) -> _Environment:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return _Environment(folder, max_bytes)
    except (DamagedError, lmdb.Error) as error:
        if isinstance(error, lmdb.Error) and error.code > 0:  # such as a full disk
            raise StoreError(f"what waits for Kafka cannot be opened: {error}") from error
        problem = str(error)
    logger.error("live.pending_damaged", problem=problem)
    _remove(folder)
    return _Environment(folder, max_bytes)


def _remove(folder: Path) -> None:
    """Remove the file; who has it open opens another one in the next turn."""
    for name in (DATA, LMDB_LOCK):
        (folder / name).unlink(missing_ok=True)


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
