"""Locks files and folders between the processes of a machine; each lock ends with its process."""

import fcntl
import math
import os
import time
from pathlib import Path
from typing import Final, Self

FOR_EVER: Final = math.inf
"""Patience that does not end."""
_POLL_S: Final = 0.05


class FileLock:
    """A lock that is held from its creation until it is closed.

    Args:
        path: A file, which is made when missing and left there.
        patience_s: Seconds to wait for whoever holds it; BlockingIOError where somebody still does then.
        mode: Of a file that is made; None where the path must be there, as a folder must.
        poll_s: Seconds between two looks whether it is free.
    """

    def __init__(
        self, path: Path, *, patience_s: float = 0.0, mode: int | None = 0o644, poll_s: float = _POLL_S
    ) -> None:
        flags = os.O_RDONLY if mode is None else os.O_RDWR | os.O_CREAT
        self._descriptor = os.open(path, flags | os.O_CLOEXEC, mode or 0)
        try:
            lock(self._descriptor, patience_s=patience_s, poll_s=poll_s)
        except BaseException:
            self.close()
            raise

    @classmethod
    def of_folder(cls, folder: Path, *, patience_s: float = 0.0) -> Self:
        """Return the lock on a folder itself, which must exist."""
        return cls(folder, patience_s=patience_s, mode=None)

    def close(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def lock(descriptor: int, *, patience_s: float = 0.0, poll_s: float = _POLL_S) -> None:
    """Lock an open file until it is closed; BlockingIOError if another process holds it for longer."""
    if math.isinf(patience_s):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(poll_s)
        else:
            return
