"""The LMDB environment of one store: opened once a process, with its databases."""

import os
import re
import threading
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import lmdb

from recsvc.live_state.profile import DamagedError

FOLDERS: Final = "store-"
"""What the names of environments begin with; a number follows."""
_NAME: Final = re.compile(FOLDERS + "[0-9]{1,18}", re.ASCII)
DATA: Final = "data.mdb"
"""LMDB's file in the folder."""
LOCK: Final = "lock.mdb"
"""LMDB's file of readers."""
PROFILES: Final = "profiles"
"""User → `Profile`."""
ACTIVITY: Final = "activity"
"""Hour of a user's newest interaction, and the user → nothing: the oldest users stand first."""
COUNTS: Final = "counts"
"""Hour and video → what interactions said for it."""
HOURS: Final = "hours"
"""Hour → how often its counts changed."""
ERASURES: Final = "erasures"
"""A user's fingerprint → up to when all is forgotten, milliseconds since 1970 UTC."""
PROGRESS: Final = "progress"
"""Topic and partition → the next offset, and when the record before it was written."""
ABOUT: Final = "about"
"""What the store is: its format, and the Kafka cluster that its offsets belong to."""
TOUCHED: Final = "touched"
"""Number of a database and a key → nothing: what changed since a copy began."""
COPIED: Final = (PROFILES, ACTIVITY, COUNTS, HOURS, ERASURES, PROGRESS, ABOUT)
DATABASES: Final = (*COPIED, TOUCHED)

MAX_READERS: Final = 4096
"""Threads of all processes that read at one moment; 64 bytes each."""
READERS_BYTES: Final = 64 * MAX_READERS + 4096
"""Of LMDB's file of readers, with its head."""
SPARE_TRANSACTIONS: Final = 64
"""Read transactions that are kept for the next reader."""
ROOM: Final = 4
"""Times the store's size for which addresses are reserved: a copy in progress keeps pages from being used again."""
MIN_MAP_BYTES: Final = 1 << 30


class Environment:
    """An open environment; it closes when the last transaction and the last holder are gone.

    Args:
        folder: Of the store.
        max_bytes: The store's size, of which the addresses that are reserved are a multiple.
        is_synced: Whether each commit is written to disk before it returns. Else a commit survives the death of every
            process, but not of the machine: the store is then rebuilt from Kafka.
        is_new: Whether to make it; else it must be there. DamagedError when its file ends before its last page: the
            kernel would kill whoever reads behind a file's end.
    """

    def __init__(self, folder: Path, *, max_bytes: int, is_synced: bool, is_new: bool = False) -> None:
        if is_new:
            folder.mkdir(parents=True, mode=0o700)
            _allocate(folder / LOCK)
        self.lmdb = lmdb.Environment(
            str(folder),
            map_size=max(MIN_MAP_BYTES, ROOM * max_bytes),
            max_dbs=len(DATABASES),
            max_readers=MAX_READERS,
            max_spare_txns=SPARE_TRANSACTIONS,
            mode=0o600,
            sync=is_synced,
            create=is_new,
            readahead=False,
        )
        self._file = folder / DATA
        self._inode = self._file.stat().st_ino
        if not is_new and self.file_bytes() < self.pages() * self.page_bytes():
            raise DamagedError(f"{self._file} ends before its last page")
        # One transaction for all: a writer is waited for once at most.
        with self.lmdb.begin(write=True) as transaction:
            self._databases = {
                name: self.lmdb.open_db(name.encode(), txn=transaction, create=is_new) for name in DATABASES
            }
        self.begin = self.lmdb.begin

    def __getitem__(self, name: str) -> "lmdb._Database":
        return self._databases[name]

    def value(self, database: str, key: bytes) -> bytes | None:
        """Return a value, None when there is none."""
        with self.begin() as transaction:
            value = transaction.get(key, db=self[database])
            return None if value is None else bytes(value)

    def count(self, database: str) -> int:
        """Return how many entries a database has."""
        with self.begin() as transaction:
            return int(transaction.stat(self[database])["entries"])

    def file_bytes(self) -> int:
        """Return how long the file is."""
        return self._file.stat().st_size

    @property
    def is_there(self) -> bool:
        """Return whether its file is still the one in the folder: somebody may have removed all, and begun anew."""
        try:
            return self._file.stat().st_ino == self._inode
        except OSError:
            return False

    def pages(self) -> int:
        """Return how many pages the file has, with those that are free to be used again."""
        return self.lmdb.info()["last_pgno"] + 1

    def page_bytes(self) -> int:
        """Return the size of a page."""
        return self.lmdb.stat()["psize"]

    def used_bytes(self) -> int:
        """Return what the databases take, without pages that are free to be used again."""
        with self.begin() as transaction:
            return self.used_pages(transaction) * self.page_bytes()

    def used_pages(self, transaction: lmdb.Transaction) -> int:
        """Return how many pages the databases take, as a transaction sees them."""
        stats = [transaction.stat(database) for database in self._databases.values()]
        return sum(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] for stat in stats)


def read_name(path: Path) -> str:
    """Return the name of an environment that a file holds; an empty text where it holds none, whatever else is there.

    The disk, or somebody, may have changed it: such a name would open another folder, or end the program.
    """
    try:
        name = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    return name if _NAME.fullmatch(name) else ""


def _allocate(lock: Path) -> None:
    """Make the file of readers with all its space: LMDB maps it, and a full disk would kill who writes there."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, READERS_BYTES)
    finally:
        os.close(descriptor)


_open: "WeakValueDictionary[Path, Environment]" = WeakValueDictionary()
_opening: Final = threading.Lock()


def open_environment(folder: Path, *, max_bytes: int, is_synced: bool, is_new: bool = False) -> Environment:
    """Return the environment of a folder: LMDB allows a process to open it once."""
    with _opening:
        known = _open.get(folder.resolve())
        if known is None or not known.is_there:
            known = Environment(folder, max_bytes=max_bytes, is_synced=is_synced, is_new=is_new)
            _open[folder.resolve()] = known
        return known
