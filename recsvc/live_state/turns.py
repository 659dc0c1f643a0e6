"""Turns of all who write to a store: threads and processes, of which none overtakes one that waits for long."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from servicekit.files.lock import FileLock
from servicekit.files.replacement import PRIVATE

WRITING: Final = "writing.lock"
WAITING: Final = "waiting.lock"
"""Lock of whoever is next: nobody who has just written takes the turn again before it."""
POLL_S: Final = 0.002
"""Most turns are over within some milliseconds."""


class StoreError(OSError):
    """The store cannot be read or written now."""


class Turns:
    """The lock of one store's writers, which each gets in turn.

    Args:
        folder: Of the store.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._threads = threading.Lock()

    @contextmanager
    def take(self, *, patience_s: float) -> Iterator[None]:
        """Hold the turn; StoreError when another one takes too long, as one that was stopped does."""
        if not self._threads.acquire(timeout=patience_s):  # one thread of a process competes with other processes
            raise StoreError("another thread writes to the live state for too long")
        try:
            with self._locked(patience_s):
                yield
        finally:
            self._threads.release()

    def _locked(self, patience_s: float) -> FileLock:
        try:
            with self._lock(WAITING, patience_s):
                return self._lock(WRITING, patience_s)
        except BlockingIOError:
            raise StoreError("another process writes to the live state for too long") from None

    def _lock(self, name: str, patience_s: float) -> FileLock:
        return FileLock(self._folder / name, patience_s=patience_s, mode=PRIVATE, poll_s=POLL_S)
