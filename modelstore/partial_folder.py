"""Creates folders for downloads under way; each download removes those that killed processes left."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from servicekit.files.lock import FileLock

_PREFIX: Final = ".download-"


@contextmanager
def partial_folder(cache: Path) -> Iterator[Path]:
    """Yield an empty folder within another one, and remove it afterwards."""
    for left in cache.glob("*"):
        if not left.name.startswith(_PREFIX):
            continue
        with suppress(OSError), FileLock.of_folder(left):  # BlockingIOError: a download of a living process
            shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=cache) as name, FileLock.of_folder(Path(name)):
        yield Path(name)
