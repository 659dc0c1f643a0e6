"""Folders of downloads under way: what a process leaves of one when it is killed is removed by the next download."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_PREFIX: Final = ".download-"


@contextmanager
def partial_folder(cache: Path) -> Iterator[Path]:
    """Yield an empty folder within another one, and remove it afterwards."""
    for left in cache.glob(f"{_PREFIX}*"):
        with suppress(OSError), _held(left):  # BlockingIOError: a download of a living process
            shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=cache) as name, _held(Path(name)):
        yield Path(name)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder, which ends with this process however it does; BlockingIOError when another has it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
