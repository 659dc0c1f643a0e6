"""The store of one data folder: which of its environments is current, and reading and writing there.

Workers look users up in it while the follower and other workers write: readers wait for nobody. A compacted or rebuilt
environment takes the place of the one before between two lookups; a lookup that is under way ends on the former one.
"""

import shutil
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import lmdb

from recsvc.live_state.batch import NEVER, Batch
from recsvc.live_state.damage import Damage
from recsvc.live_state.environment import (
    ABOUT,
    COUNTS,
    ERASURES,
    FOLDERS,
    HOURS,
    PROFILES,
    PROGRESS,
    Environment,
    open_environment,
    read_name,
)
from recsvc.live_state.keys import (
    FORMAT,
    FORMAT_KEY,
    INTERNAL,
    hour_key,
    read_erasure,
    read_hour,
    read_partition,
    read_place,
    read_real,
    read_whole,
    unsealed,
    whole,
)
from recsvc.live_state.profile import DamagedError, Profile, copied, without
from recsvc.live_state.turns import StoreError, Turns
from recsvc.workers.change_counter import SharedCounter
from servicekit.files.replacement import PRIVATE, sync_folder, write_whole
from servicekit.user_fingerprint import user_fingerprint

__all__ = ["CURRENT", "LiveStore", "StoreError"]

CURRENT: Final = "current"
"""File with the name of the current environment's folder; empty while none is."""
CHANGES: Final = "current.count"
"""File that counts how often another one became current."""
MAX_BYTES: Final = 4 << 30
PATIENCE_S: Final = 1.0
"""Seconds for which a writer waits for another one."""
STEP: Final = 1000
"""Values that one read transaction covers where many are read: it keeps pages from being used again."""


class Known(NamedTuple):
    """The store's entries on one user."""

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
        self.damage = Damage(folder)
        self._turns = Turns(folder)
        self._changes = SharedCounter(folder / CHANGES)
        self._seen = -1
        self._environment: Environment | None = None
        self._reopening = threading.Lock()
        self._opener: ThreadPoolExecutor | None = None
        self._is_opening = False
        self._is_broken = False
        self._interim: Mapping[bytes, int] = {}

    def forget_meanwhile(self, marks: Mapping[bytes, int]) -> None:
        """Forget these users for as long as no environment is current: fingerprints, and up to when."""
        self._interim = marks

    def environment(self) -> Environment | None:
        """Return the current environment, None while there is none; wait for a writer where it must be opened."""
        with suppress(OSError):  # a folder that is of no use keeps nobody from serving pages
            if self._changes.renew() or self._changes.get() != self._seen:
                with self.turn():
                    self._reopen(is_sure=True)
        return self._environment

    def current(self) -> str:
        """Return the name of the current environment, an empty text while there is none."""
        return read_name(self.folder / CURRENT)

    def make_current(self, name: str) -> None:
        """Let everybody use the environment of this folder from now on, or none; the caller holds `turn`."""
        self._changes.advance()  # first: who sees it waits for the turn, also when this process dies here
        write_whole(self.folder / CURRENT, name, mode=PRIVATE)
        self._reopen()

    def create(self) -> str:
        """Make an empty environment, which is not current, and return its name; StoreError on a full disk."""
        known = [name.removeprefix(FOLDERS) for name in (*self.names(), self.current())]
        name = f"{FOLDERS}{1 + max((int(number) for number in known if number.isdecimal()), default=0)}"
        try:
            environment = self.open(name, is_new=True)
            with environment.begin(write=True) as transaction:
                transaction.put(FORMAT_KEY, whole(FORMAT), db=environment[ABOUT])
            sync_folder(self.folder / name)
            sync_folder(self.folder)
        except (OSError, lmdb.Error) as error:  # on a full disk, what each attempt leaves would fill it further
            shutil.rmtree(self.folder / name, ignore_errors=True)
            raise StoreError(f"no live state can be made: {error}") from error
        return name

    def open(self, name: str, *, is_new: bool = False) -> Environment:
        """Return an environment by its name."""
        folder = self.folder / name
        return open_environment(folder, max_bytes=self.max_bytes, is_synced=self.is_synced, is_new=is_new)

    def names(self) -> list[str]:
        """Return the names of all environments."""
        return [path.name for path in self.folder.iterdir() if path.name.startswith(FOLDERS)]

    def look(self, user_id: str, before: bytes | None = None) -> tuple[bytes | None, int | None]:
        """Return a user's packed profile and up to when the user is forgotten, and wait for nobody.

        Nothing is known of one whose values are damaged. A profile that is as `before` is that object.
        """
        if (environment := self._for_page()) is None:
            return None, self._interim.get(user_fingerprint(user_id)) if self._interim else None
        try:
            with environment.begin(buffers=True) as transaction:
                found = transaction.get(user_id.encode(), None, environment[PROFILES])
                mark = transaction.get(user_fingerprint(user_id), None, environment[ERASURES])
                packed = None if found is None else copied(found, before)
                return packed, None if mark is None else read_erasure(mark)[0]
        except (lmdb.Error, DamagedError) as error:
            self._report(error)
            return None, None

    def known(self, user_id: str) -> Known:
        """Return what is known of a user, and wait for nobody; of one whose values are damaged, nothing."""
        packed, at_ms = self.look(user_id)
        if packed is None:
            return UNKNOWN if at_ms is None else Known(None, at_ms)
        try:
            profile = Profile(packed)
            profile.check()
            return Known(profile if at_ms is None else without(profile, at_ms), at_ms)
        except DamagedError:
            self.damage.report()
            return Known(None, at_ms)

    def hours(self) -> dict[int, int]:
        """Return the hours that have counts, since 1970, and how often those changed."""
        with self._read(HOURS) as rows:
            return {read_hour(key): read_whole(value) for key, value in rows}

    def counts(self, hour: int) -> tuple[list[bytes], list[float]]:
        """Return the videos of an hour, and what the interactions with each say for it."""
        videos: list[bytes] = []
        sums: list[float] = []
        prefix = hour_key(hour)
        with self._read(COUNTS, prefix) as rows:
            for key, value in rows:
                if not key.startswith(prefix):
                    break
                videos.append(key[len(prefix) :])
                sums.append(read_real(value))
        return videos, sums

    def progress(self) -> dict[tuple[str, int], tuple[int, int]]:
        """Return by topic and partition the next offset, and when the record before it was written."""
        with self._read(PROGRESS) as rows:
            return {read_partition(key): read_place(value) for key, value in rows}

    def about(self) -> dict[str, str]:
        """Return what `Batch.describe` noted."""
        with self._read(ABOUT) as rows:
            return {key.decode(): unsealed(value).decode() for key, value in rows if key not in INTERNAL}

    def marks(self) -> Iterator[tuple[bytes, int, bool]]:
        """Yield fingerprints of the forgotten, up to when each is forgotten, and whether the profile was trimmed."""
        after = b""
        while True:
            with self._read(ERASURES, after) as rows:
                some = [(mark, *read_erasure(value)) for mark, value in islice(rows, STEP)]
            yield from some
            if len(some) < STEP:
                return
            after = some[-1][0] + b"\0"

    @contextmanager
    def turn(self, *, patience_s: float = PATIENCE_S) -> Iterator[None]:
        """Take turns with all who write; StoreError when another one takes too long, as one that was stopped does."""
        with self._turns.take(patience_s=patience_s):
            yield

    @contextmanager
    def writing(self, *, keep_since_ms: int = NEVER, patience_s: float = PATIENCE_S) -> Iterator[Batch]:
        """Yield a batch that is committed with the block; StoreError when it cannot be, and then nothing has changed.

        Args:
            keep_since_ms: Interactions up to then are not kept, milliseconds since 1970 UTC.
            patience_s: Seconds to wait for another writer.
        """
        with self.turn(patience_s=patience_s):
            self._reopen()
            environment = self._environment
            if environment is None or not environment.is_there:  # what nobody finds again is not kept
                raise StoreError("the live state is not there now")
            try:
                with environment.begin(write=True) as transaction:
                    yield Batch(environment, transaction, keep_since_ms=keep_since_ms)
            except (lmdb.Error, DamagedError) as error:
                self._report(error)
                raise StoreError(f"the live state cannot be written: {error}") from error

    def clear_dead_readers(self) -> int:
        """Let the pages be used again that readers held who died, and return how many those were."""
        environment = self.environment()
        return environment.lmdb.reader_check() if environment else 0

    @contextmanager
    def _read(self, database: str, start: bytes = b"") -> Iterator[Iterator[tuple[bytes, bytes]]]:
        """Yield the keys and values of a database in one transaction; StoreError when it cannot be read."""
        environment = self.environment()
        if environment is None:
            yield iter(())
            return
        try:
            with environment.begin(db=environment[database]) as transaction, transaction.cursor() as cursor:
                yield iter(cursor) if cursor.set_range(start) else iter(())
        except (lmdb.Error, DamagedError) as error:
            self._report(error)
            raise StoreError(f"the live state cannot be read: {error}") from error

    def _for_page(self) -> Environment | None:
        """Return the environment that is open, and have one that became current opened in a thread beside."""
        if self._changes.get() != self._seen and not self._is_opening:
            self._is_opening = True
            with suppress(RuntimeError):  # no thread begins while the process ends
                self._opener = self._opener or ThreadPoolExecutor(1, "live-state-opener")
                self._opener.submit(self._open_beside)
        return self._environment

    def _open_beside(self) -> None:
        try:
            self.environment()
        finally:
            self._is_opening = False

    def _reopen(self, *, is_sure: bool = False) -> None:
        """Open the current environment; the caller holds `turn`, so that no writer is waited for."""
        with self._reopening:
            is_sure = self._changes.renew() or is_sure
            changes = self._changes.get()
            if changes == self._seen and not is_sure:
                return
            name = self.current()
            if self._is_broken:
                self._environment, self._is_broken = None, False  # before the same one is opened again
            try:
                self._environment = self.open(name) if name else None
            except (lmdb.Error, DamagedError, OSError):
                self._environment = None
                self.damage.report()
            self._seen = changes

    def _report(self, error: Exception) -> None:
        """Report damage, unless the error says nothing about the store's contents, as a full disk does not."""
        self._is_broken = self._is_broken or isinstance(error, lmdb.PanicError)
        is_of_system = isinstance(error, lmdb.Error) and error.code > 0
        if not is_of_system and not isinstance(error, lmdb.MapFullError | lmdb.TxnFullError | lmdb.ReadersFullError):
            self.damage.report()
