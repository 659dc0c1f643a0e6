"""The LMDB environment of one store: opened once a process, with its databases."""

import threading
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import lmdb

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
DATABASES: Final = (PROFILES, ACTIVITY, COUNTS, HOURS, ERASURES, PROGRESS, ABOUT)

MAX_READERS: Final = 4096
"""Threads of all processes that read at one moment; 64 bytes each."""
SPARE_TRANSACTIONS: Final = 64
"""Read transactions that are kept for the next reader."""
ROOM: Final = 4
"""Times the store's size for which addresses are reserved: a copy in progress keeps pages from being used again."""
MIN_MAP_BYTES: Final = 1 << 30


class Environment:
    """An open environment; it closes when the last transaction and the last holder are gone.

    Args:
        folder: Of the store; made when missing.
        max_bytes: The store's size, of which the addresses that are reserved are a multiple.
        is_synced: Whether each commit is written to disk before it returns. Else a commit survives the death of every
            process, but not of the machine: the store is then rebuilt from Kafka.
    """

    def __init__(self, folder: Path, *, max_bytes: int, is_synced: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.lmdb = lmdb.Environment(
            str(folder),
            map_size=max(MIN_MAP_BYTES, ROOM * max_bytes),
            max_dbs=len(DATABASES),
            max_readers=MAX_READERS,
            max_spare_txns=SPARE_TRANSACTIONS,
            mode=0o600,
            sync=is_synced,
            readahead=False,
        )
        self._databases = {name: self.lmdb.open_db(name.encode()) for name in DATABASES}
        self.begin = self.lmdb.begin

    def __getitem__(self, name: str) -> "lmdb._Database":
        return self._databases[name]

    def used_bytes(self) -> int:
        """Return what the databases take, without pages that are free to be used again."""
        pages = page_bytes = 0
        with self.begin() as transaction:
            for database in self._databases.values():
                stat = transaction.stat(database)
                pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
                page_bytes = stat["psize"]
        return pages * page_bytes


_open: "WeakValueDictionary[Path, Environment]" = WeakValueDictionary()
_opening: Final = threading.Lock()


def open_environment(folder: Path, *, max_bytes: int, is_synced: bool) -> Environment:
    """Return the environment of a folder: LMDB allows a process to open it once."""
    with _opening:
        known = _open.get(folder.resolve())
        if known is None:
            known = Environment(folder, max_bytes=max_bytes, is_synced=is_synced)
            _open[folder.resolve()] = known
        return known
