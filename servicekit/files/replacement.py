"""Writes files that appear complete or not at all, and survive a crash: file and folder are synced to disk.

What is half written stands beside them under a name with a dot before it.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

READABLE: Final = 0o644
"""Mode of a file that everybody may read."""
PRIVATE: Final = 0o600
"""Mode of one that only its owner may read."""


def write_whole(path: Path, content: str | bytes, *, mode: int = READABLE) -> None:
    """Write a file in place of an existing one; its folder must exist."""
    with replacing(path, mode=mode) as beside:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path, *, mode: int = READABLE) -> Iterator[Path]:
    """Yield a file beside the path, then sync it and move it to the path."""
    with _beside(path, lambda temporary: temporary.replace(path), mode) as temporary:
        yield temporary


@contextmanager
def creating(path: Path, *, mode: int = READABLE) -> Iterator[Path]:
    """Yield a file beside the path, then sync it and link it to the path; FileExistsError if something is there."""
    with _beside(path, path.hardlink_to, mode) as temporary:
        yield temporary


def sync_folder(folder: Path) -> None:
    """Sync a folder's names to disk: else a crash may bring the former file back."""
    _sync(folder)


@contextmanager
def _beside(path: Path, place: Callable[[Path], object], mode: int) -> Iterator[Path]:
    """Yield a file beside the path, then sync it and call `place` to move it to the path."""
    descriptor, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(mode)
        _sync(temporary)
        place(temporary)
        sync_folder(path.parent)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk does not say where it is
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
