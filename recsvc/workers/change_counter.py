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
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(descriptor).st_size < _BYTES:
                # Its block is taken now: on a disk that is full later, to write to the mapping would end the process.
                os.posix_fallocate(descriptor, 0, _BYTES)
            self._count = memoryview(mmap.mmap(descriptor, _BYTES)).cast("Q")
        finally:
            os.close(descriptor)

    def get(self) -> int:
        """Return how many changes there were."""
        return self._count[0]

    def advance(self) -> None:
        """Count one more; of two processes that do so at once, one may be lost to those who look at that moment."""
        self._count[0] += 1
