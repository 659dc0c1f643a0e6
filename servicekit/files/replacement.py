"""Files that appear whole or not at all, and are still there after a crash: they and their folder are written to disk.

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
    """Put a file in the place of what stands there; its folder must be there."""
    with replacing(path, mode=mode) as beside:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path, *, mode: int = READABLE) -> Iterator[Path]:
    """Yield a file beside the path; afterwards it is on disk and stands in the path's place."""
    with _beside(path, lambda temporary: temporary.replace(path), mode) as temporary:
        yield temporary


@contextmanager
def creating(path: Path, *, mode: int = READABLE) -> Iterator[Path]:
    """Yield a file beside the path; afterwards it is on disk and stands there; FileExistsError if something did."""
    with _beside(path, path.hardlink_to, mode) as temporary:
        yield temporary


def sync_folder(folder: Path) -> None:
    """Write a folder's names to disk: else a crash may bring the file before back."""
    _sync(folder)


@contextmanager
def _beside(path: Path, place: Callable[[Path], object], mode: int) -> Iterator[Path]:
    """Yield a file beside the path; afterwards it is on disk, and `place` has put it where it belongs."""
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
