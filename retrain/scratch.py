"""Folders for the scratch files of a run; those of runs that were killed are swept away by the next one."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PREFIX: Final = "retrain-"
LOCK: Final = ".lock"


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Yield an empty folder that is removed afterwards, and remove what killed runs left beside it."""
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=parent) as name:
        folder = Path(name)
        descriptor = _locked(folder)
        try:
            yield folder
        finally:
            if descriptor is not None:
                os.close(descriptor)


def sweep(parent: Path) -> None:
    """Remove the folders whose run is not alive."""
    for folder in parent.glob("*"):
        if not folder.name.startswith(PREFIX) or not (folder / LOCK).exists():
            continue  # somebody else's, or about to be locked
        descriptor = _locked(folder)
        if descriptor is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)


def _locked(folder: Path) -> int | None:
    """Return a descriptor that holds the folder's lock, None when another process does."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
