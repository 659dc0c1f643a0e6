"""Locks on folders, among the processes of a machine."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

POLL_S: Final = 0.05


@contextmanager
def folder_lock(folder: Path, *, patience_s: float = 0.0) -> Iterator[None]:
    """Hold the lock on a folder, which ends with this process however it does.

    Args:
        folder: Must be there.
        patience_s: Seconds to wait for another process; BlockingIOError when that one still has it then.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, time.monotonic() + patience_s)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(POLL_S)
        else:
            return
