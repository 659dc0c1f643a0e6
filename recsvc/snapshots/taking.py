"""Writes the records of a store to parts, in one read transaction: records and offsets are of the same moment.

Pages that writers free meanwhile are not used again before the transaction ends, so it ends in bounded time.
"""

import hashlib
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, cast

import lmdb

from recsvc.live_state.environment import ERASURES, PROFILES, PROGRESS, Environment
from recsvc.live_state.keys import read_erasure, read_partition, read_place
from recsvc.live_state.profile import Profile, without
from recsvc.snapshots.blocks import BLOCK_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES, PartWriter
from recsvc.snapshots.snapshot import Offset, Part, SnapshotError
from recsvc.snapshots.sound_records import CARRIED, interactions_of, odd_records
from servicekit.user_fingerprint import user_fingerprint

MAX_READ_S: Final = 300.0
"""Seconds for which the transaction may hold pages; a store that takes longer has no snapshot."""
GROWTH: Final = 8
"""The part of its bound by which the store may grow meanwhile, as pages are not used again."""

Records = Iterator[tuple[bytes, bytes]]


class Taken(NamedTuple):
    """The facts about the written parts that a `Snapshot` holds."""

    offsets: list[Offset]
    records: dict[str, int]
    interactions: int
    left_out: int
    marks_sha256: str
    raw_bytes: int
    parts: list[Part]
    sha256: str


class Taking:
    """One reading of a store.

    Args:
        environment: Of the store.
        folder: Where the parts go.
        max_growth_bytes: By which the store's file may grow meanwhile.
        monotonic: A clock that never goes back, seconds.
        max_read_s: Seconds that it may take.
    """

    def __init__(
        self,
        environment: Environment,
        folder: Path,
        *,
        max_growth_bytes: int,
        monotonic: Callable[[], float],
        max_read_s: float = MAX_READ_S,
    ) -> None:
        self._environment = environment
        self._monotonic = monotonic
        self._max_read_s = max_read_s
        self._max_pages = environment.pages() + max_growth_bytes // environment.page_bytes()
        self._end = 0.0
        self._writer = PartWriter(folder)
        self._offsets: list[Offset] = []
        self._records = dict.fromkeys(CARRIED, 0)
        self._interactions = 0
        self._left_out = 0

    def run(self) -> Taken:
        """Write all parts; SnapshotError when the store has no offsets yet, or it takes too long."""
        self._end = self._monotonic() + self._max_read_s
        with self._environment.begin() as transaction:
            for database in CARRIED:
                self._write(database, transaction)
            marks_sha256 = digest_of_marks(self._environment, transaction)
        self._writer.close()
        if not self._offsets:
            raise SnapshotError("offsets", "the live state has no offsets to go on from")
        return Taken(
            self._offsets,
            self._records,
            self._interactions,
            self._left_out,
            marks_sha256,
            self._writer.raw_bytes,
            self._writer.parts,
            self._writer.sha256(),
        )

    def _write(self, database: str, transaction: lmdb.Transaction) -> None:
        keys: list[bytes] = []
        values: list[bytes] = []
        size = 0
        for key, value in self._chosen(database, transaction):
            if len(key) > MAX_KEY_BYTES or len(value) > MAX_VALUE_BYTES:
                self._left_out += 1
                continue
            keys.append(key)
            values.append(value)
            size += len(key) + len(value) + 6
            if size >= BLOCK_BYTES:
                self._flush(database, keys, values)
                keys, values, size = [], [], 0
        if keys:
            self._flush(database, keys, values)

    def _chosen(self, database: str, transaction: lmdb.Transaction) -> Records:
        # Without `buffers`, a transaction returns bytes.
        found = cast("Records", iter(transaction.cursor(db=self._environment[database])))
        if database == PROFILES and transaction.stat(self._environment[ERASURES])["entries"]:
            return self._without_erased(found, transaction)
        return found

    def _without_erased(self, profiles: Records, transaction: lmdb.Transaction) -> Records:
        """Yield profiles without what is forgotten, which stands in the store until that is compacted."""
        marks = self._environment[ERASURES]
        for key, value in profiles:
            mark = transaction.get(user_fingerprint(key.decode("utf-8", "replace")), db=marks)
            if mark is None:
                yield key, value
                continue
            try:
                left = without(Profile(value), read_erasure(mark)[0])
            except (ValueError, struct.error):  # DamagedError is a ValueError
                self._left_out += 1
                continue
            if left:
                yield key, left.packed

    def _flush(self, database: str, keys: list[bytes], values: list[bytes]) -> None:
        if self._monotonic() > self._end:
            raise SnapshotError("time", f"reading the live state took more than {self._max_read_s:.0f} s")
        if self._environment.pages() > self._max_pages:
            raise SnapshotError("growth", "the live state grew too much while it was read")
        for place in reversed(odd_records(database, keys, values)):
            del keys[place], values[place]
            self._left_out += 1
        if not keys:
            return
        self._writer.write(database, keys, values)
        self._records[database] += len(keys)
        if database == PROFILES:
            self._interactions += interactions_of(values)
        elif database == PROGRESS:
            self._offsets += map(_offset, keys, values)


def digest_of_marks(environment: Environment, transaction: lmdb.Transaction) -> str:
    """Return the digest of all erasure marks of a store, whether they were applied already or not."""
    digest = hashlib.sha256()
    for mark, value in transaction.cursor(db=environment[ERASURES]):
        digest.update(mark)
        digest.update(value[:8])
    return digest.hexdigest()


def _offset(key: bytes, value: bytes) -> Offset:
    topic, partition = read_partition(key)
    offset, at_ms = read_place(value)
    return Offset(topic=topic, partition=partition, offset=offset, at_ms=at_ms)
