"""Creates folders for the scratch files of a run, and removes those that killed runs left."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from servicekit.files.lock import FileLock

PREFIX: Final = "retrain-"
LOCK: Final = ".lock"


def private_folder() -> Path:
    """Return the account's own folder among the machine's temporary files; create it if missing.

    PermissionError where it is somebody else's: names there can be taken by anybody, and locks and what is kept from
    run to run stand in it under names that everybody knows.
    """
    folder = Path(tempfile.gettempdir()) / f"lightfm-retrain-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(f"{folder} is not this account's alone: remove it, or set RETRAIN_WORK_DIR")
    return folder


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Yield an empty folder that is removed afterwards, and remove those that killed runs left beside it."""
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=parent) as name:
        folder = Path(name)
        lock = _locked(folder)
        try:
            yield folder
        finally:
            if lock is not None:
                lock.close()


def sweep(parent: Path) -> None:
    """Remove the folders whose run is not alive."""
    for folder in parent.glob("*"):
        if not folder.name.startswith(PREFIX) or not (folder / LOCK).exists():
            continue  # somebody else's, or about to be locked
        lock = _locked(folder)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            lock.close()


def _locked(folder: Path) -> FileLock | None:
    """Return the folder's lock, None if another process holds it, or if no lock is possible."""
    try:
        return FileLock(folder / LOCK, mode=0o600)
    except OSError:
        return None
