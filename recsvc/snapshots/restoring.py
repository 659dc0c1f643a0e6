"""Builds an environment from the parts of a snapshot: nothing of it is used before all of it was checked.

Keys stand in order, so LMDB appends them: pages are written once, and full. Which users were active in which hour
follows from their profiles and is not carried.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import lmdb

from recsvc.live_state.environment import ACTIVITY, ERASURES, HOURS, PROFILES, PROGRESS, Environment
from recsvc.live_state.keys import (
    erasure,
    hour_key,
    hour_of,
    read_erasure,
    read_partition,
    read_place,
    read_whole,
    whole,
)
from recsvc.live_state.profile import Profile, without
from recsvc.snapshots.blocks import MAX_PART_BYTES, Block, read_blocks
from recsvc.snapshots.snapshot import Partition, Snapshot, SnapshotError
from recsvc.snapshots.sound_records import CARRIED, interactions_of, odd_records
from servicekit.user_fingerprint import user_fingerprint

COMMIT_BYTES: Final = 64 << 20
"""Bytes of blocks between two commits: LMDB keeps the pages of a transaction in memory."""


class Restoring:
    """One snapshot on its way into an environment.

    Args:
        environment: A new one.
        snapshot: What the parts must be.
        marks: Users to be forgotten by fingerprint, and up to when, besides those of the snapshot.
        now_ms: The time, milliseconds since 1970 UTC.
    """

    def __init__(
        self, environment: Environment, snapshot: Snapshot, *, marks: Mapping[bytes, int], now_ms: int
    ) -> None:
        self._environment = environment
        self._snapshot = snapshot
        self._marks = marks
        self._now_ms = now_ms
        self._transaction: lmdb.Transaction | None = None
        self._uncommitted = 0
        self._has_marks = bool(marks)
        self._place = 0
        self._last_key = b""
        self._whole = hashlib.sha256()
        self._places: dict[Partition, tuple[int, int]] = {}
        self._records = dict.fromkeys(CARRIED, 0)
        self._interactions = 0
        self._raw_bytes = 0

    def take(self, path: Path, number: int) -> None:
        """Check the next part and add its records; SnapshotError when it differs from the manifest."""
        part = self._snapshot.parts[number]
        if path.stat().st_size != part.size or part.size > MAX_PART_BYTES:
            raise SnapshotError("size", f"{path.name} has {path.stat().st_size} bytes instead of {part.size}")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != part.sha256:
            raise SnapshotError("checksum", f"the checksum of {path.name} is wrong")
        self._whole.update(data)
        del data
        for block in read_blocks(path):
            self._raw_bytes += block.raw_bytes
            if self._raw_bytes > self._snapshot.raw_bytes:
                raise SnapshotError("size", f"the blocks have more than {self._snapshot.raw_bytes} bytes")
            if block.database in CARRIED:  # a later release may have others
                self._put(block)

    def finish(self) -> None:
        """Do the checks that need all parts, and write all to disk; SnapshotError when anything is wrong."""
        self._begin_databases_up_to(len(CARRIED))
        snapshot = self._snapshot
        for what, found, wanted in (
            ("checksum", self._whole.hexdigest(), snapshot.sha256),
            ("offsets", self._places, snapshot.places()),
            ("count", self._records, {name: snapshot.records.get(name, 0) for name in CARRIED}),
            ("count", self._interactions, snapshot.interactions),
            ("count", self._raw_bytes, snapshot.raw_bytes),
        ):
            if found != wanted:
                raise SnapshotError(what, f"the parts hold {found}, the manifest says {wanted}"[:500])
        self._commit()
        self._environment.lmdb.sync(force=True)

    def abandon(self) -> None:
        """Abort the transaction that is not committed."""
        if self._transaction:
            self._transaction.abort()
            self._transaction = None

    def _put(self, block: Block) -> None:
        self._begin_databases_up_to(CARRIED.index(block.database))
        keys, values = block.keys, block.values
        odd = odd_records(block.database, keys, values)
        if odd:
            raise SnapshotError(
                "record", f"{len(odd)} records of {block.database} are not sound, such as {keys[odd[0]]!r}"
            )
        if not _ascend(self._last_key, keys):
            raise SnapshotError("order", f"the keys of {block.database} are not in order")
        self._last_key = keys[-1]
        self._records[block.database] += len(keys)
        if block.database == PROFILES:
            self._interactions += interactions_of(values)
            self._put_profiles(zip(keys, values, strict=True))
        else:
            self._append(block.database, [*self._changed(block.database, zip(keys, values, strict=True))])
        self._uncommitted += block.raw_bytes
        if self._uncommitted >= COMMIT_BYTES:
            self._commit()

    def _changed(self, database: str, records: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
        for key, value in records:
            if database == ERASURES:
                self._has_marks = True
                yield key, erasure(read_erasure(value)[0], is_applied=True)
            elif database == HOURS:  # who knew an hour of the former store takes this one for another
                yield key, whole(read_whole(value) + self._now_ms)
            else:
                if database == PROGRESS:
                    self._places[read_partition(key)] = read_place(value)
                yield key, value

    def _put_profiles(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        left: list[tuple[bytes, bytes]] = []
        active: list[bytes] = []
        for key, value in records:
            profile: Profile | None = Profile(value)
            if profile and self._has_marks:
                profile = self._remembered(key, profile)
            if profile:
                left.append((key, profile.packed))
                active.append(hour_key(hour_of(profile.newest_at_ms)) + key)
        self._append(PROFILES, left)
        cursor = self._writing().cursor(db=self._environment[ACTIVITY])
        cursor.putmulti([(key, b"") for key in sorted(active)])

    def _remembered(self, key: bytes, profile: Profile) -> Profile | None:
        mark = self._writing().get(user_fingerprint(key.decode()), db=self._environment[ERASURES])
        return profile if mark is None else without(profile, read_erasure(mark)[0])

    def _append(self, database: str, records: list[tuple[bytes, bytes]]) -> None:
        if records:
            cursor = self._writing().cursor(db=self._environment[database])
            consumed, added = cursor.putmulti(records, append=True)
            if not consumed == added == len(records):
                raise SnapshotError("order", f"the keys of {database} are not in order")

    def _begin_databases_up_to(self, place: int) -> None:
        if place < self._place:
            raise SnapshotError("order", f"{CARRIED[place]} comes after {CARRIED[self._place]}")
        if place > self._place:
            marks = CARRIED.index(ERASURES)
            if self._place <= marks < place:
                self._put_marks()
            self._place, self._last_key = place, b""

    def _put_marks(self) -> None:
        """Add the marks that the caller knows: profiles come later, and find all of them."""
        marks = self._environment[ERASURES]
        for mark, at_ms in self._marks.items():
            known = self._writing().get(mark, db=marks)
            latest = max(at_ms, read_erasure(known)[0]) if known else at_ms
            self._writing().put(mark, erasure(latest, is_applied=True), db=marks)

    def _writing(self) -> lmdb.Transaction:
        if self._transaction is None:
            self._transaction = self._environment.begin(write=True)
        return self._transaction

    def _commit(self) -> None:
        if self._transaction:
            transaction, self._transaction = self._transaction, None
            transaction.commit()
        self._uncommitted = 0


def _ascend(before: bytes, keys: Sequence[bytes]) -> bool:
    return before < keys[0] and all(map(bytes.__lt__, keys, keys[1:]))
