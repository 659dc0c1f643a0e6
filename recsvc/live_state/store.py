"""The store of one data folder: which of its environments is current, and reading and writing there.

Workers look users up in it while the follower and other workers write: readers wait for nobody. A compacted or rebuilt
environment takes the place of the one before between two lookups; a lookup that is under way ends on the former one.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import lmdb

from recsvc.live_state.batch import NEVER, Batch
from recsvc.live_state.environment import (
    COUNTS,
    ERASURES,
    HOURS,
    PROFILES,
    PROGRESS,
    Environment,
    open_environment,
)
from recsvc.live_state.keys import (
    hour_key,
    read_erasure,
    read_hour,
    read_partition,
    read_place,
    read_real,
    read_whole,
)
from recsvc.live_state.profile import DamagedError, Profile, without
from recsvc.workers.change_counter import SharedCounter
from servicekit.files.lock import FileLock
from servicekit.files.replacement import PRIVATE, write_whole
from servicekit.user_fingerprint import user_fingerprint

CURRENT: Final = "current"
"""File with the name of the current environment's folder."""
CHANGES: Final = "current.count"
"""File that counts how often another one became current."""
WRITING: Final = "writing.lock"
MAX_BYTES: Final = 4 << 30
PATIENCE_S: Final = 1.0
"""Seconds for which a writer waits for another one."""


class StoreError(OSError):
    """The store cannot be read or written now."""


class Known(NamedTuple):
    """What the store knows of a user."""

    profile: Profile | None
    forgotten_at_ms: int | None
    """Up to when the user is forgotten, milliseconds since 1970 UTC; None for one who is not."""


UNKNOWN: Final = Known(None, None)


class LiveStore:
    """The store of a folder, for many threads and processes.

    Args:
        folder: Made when missing, readable by its owner only.
        max_bytes: Size that the store is kept below.
        is_synced: Whether commits are on disk before they return; see `Environment`.
    """

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES, is_synced: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self.max_bytes = max_bytes
        self.is_synced = is_synced
        self._changes = SharedCounter(folder / CHANGES)
        self._seen = -1
        self._environment: Environment | None = None
        self._reopening = threading.Lock()

    def environment(self) -> Environment | None:
        """Return the current environment, None while there is none."""
        changes = self._changes.get()
        if changes != self._seen:
            self._reopen(changes)
        return self._environment

    def make_current(self, name: str) -> None:
        """Let everybody use the environment of this folder from now on; the caller holds `turn`."""
        write_whole(self.folder / CURRENT, name, mode=PRIVATE)
        self._changes.advance()

    def known(self, user_id: str) -> Known:
        """Return what is known of a user; of one whose value is damaged, nothing."""
        environment = self.environment()
        if environment is None:
            return UNKNOWN
        with environment.begin() as transaction:
            packed = transaction.get(user_id.encode(), db=environment[PROFILES])
            forgotten = transaction.get(user_fingerprint(user_id), db=environment[ERASURES])
        at_ms = read_erasure(forgotten)[0] if forgotten else None
        if packed is None:
            return Known(None, at_ms) if forgotten else UNKNOWN
        try:
            profile = Profile(bytes(packed))
            return Known(profile if at_ms is None else without(profile, at_ms), at_ms)
        except DamagedError:
            return Known(None, at_ms)

    def hours(self) -> dict[int, int]:
        """Return the hours that have counts, since 1970, and how often those changed."""
        environment = self.environment()
        if environment is None:
            return {}
        with environment.begin(db=environment[HOURS]) as transaction:
            return {read_hour(key): read_whole(value) for key, value in transaction.cursor()}

    def counts(self, hour: int) -> tuple[list[bytes], list[float]]:
        """Return the videos of an hour, and what the interactions with each say for it."""
        environment = self.environment()
        videos: list[bytes] = []
        sums: list[float] = []
        if environment is None:
            return videos, sums
        prefix = hour_key(hour)
        with environment.begin(db=environment[COUNTS]) as transaction, transaction.cursor() as cursor:
            if cursor.set_range(prefix):
                for key, value in cursor:
                    if not key.startswith(prefix):
                        break
                    videos.append(key[len(prefix) :])
                    sums.append(read_real(value))
        return videos, sums

    def progress(self) -> dict[tuple[str, int], tuple[int, int]]:
        """Return by topic and partition the next offset, and when the record before it was written."""
        environment = self.environment()
        if environment is None:
            return {}
        with environment.begin(db=environment[PROGRESS]) as transaction:
            return {read_partition(key): read_place(value) for key, value in transaction.cursor()}

    @contextmanager
    def turn(self, *, patience_s: float = PATIENCE_S) -> Iterator[None]:
        """Take turns with all who write; StoreError when another one takes too long, as one that was stopped does."""
        try:
            lock = FileLock(self.folder / WRITING, patience_s=patience_s, mode=PRIVATE)
        except BlockingIOError:
            raise StoreError("another process writes to the live state for too long") from None
        with lock:
            yield

    @contextmanager
    def writing(self, *, keep_since_ms: int = NEVER, patience_s: float = PATIENCE_S) -> Iterator[Batch]:
        """Yield a batch that is committed with the block; StoreError when it cannot be, and then nothing has changed.

        Args:
            keep_since_ms: Interactions up to then are not kept, milliseconds since 1970 UTC.
            patience_s: Seconds to wait for another writer.
        """
        with self.turn(patience_s=patience_s):
            environment = self.environment()
            if environment is None:
                raise StoreError("the live state is not there yet")
            try:
                with environment.begin(write=True) as transaction:
                    yield Batch(environment, transaction, keep_since_ms=keep_since_ms)
            except lmdb.Error as error:
                raise StoreError(f"the live state cannot be written: {error}") from error

    def _reopen(self, changes: int) -> None:
        with self._reopening:
            if changes == self._seen:
                return
            name = ""
            with suppress(FileNotFoundError):
                name = (self.folder / CURRENT).read_text()
            self._environment = self._open(name) if name else None
            self._seen = changes

    def _open(self, name: str) -> Environment:
        return open_environment(self.folder / name, max_bytes=self.max_bytes, is_synced=self.is_synced)
