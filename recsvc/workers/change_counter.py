"""A count of changes that the processes of one machine share."""

import mmap
import os
from pathlib import Path
from typing import Final

_BYTES: Final = 8


class SharedCounter:
    """Eight bytes of a file, mapped into memory: looking costs no system call.

    Args:
        path: Made when missing, with its folder.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file, self._count = _mapped(path)

    def get(self) -> int:
        """Return how many changes there were."""
        return self._count[0]

    def advance(self) -> None:
        """Count one more; of two processes that do so at once, one may be lost to those who look at that moment."""
        self.renew()
        self._count[0] += 1

    def renew(self) -> bool:
        """Map the file that is there now, and return whether it is another one: somebody may have removed the first.

        Else a process that starts later would count in a file that the others never look at.
        """
        try:
            status = self._path.stat()
        except FileNotFoundError:
            is_same = False
        else:
            is_same = (status.st_dev, status.st_ino) == self._file
        if not is_same:
            self._file, self._count = _mapped(self._path)
        return not is_same


def _mapped(path: Path) -> "tuple[tuple[int, int], memoryview[int]]":
    """Return which file it is, and its count in memory."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        status = os.fstat(descriptor)
        if status.st_size < _BYTES:
            # Its block is taken now: on a disk that is full later, to write to the mapping would end the process.
            os.posix_fallocate(descriptor, 0, _BYTES)
        return (status.st_dev, status.st_ino), memoryview(mmap.mmap(descriptor, _BYTES)).cast("Q")
    finally:
        os.close(descriptor)
