"""A disk that can be full: a small file system of its own where that may be mounted."""

import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

SIZE: Final = "768m"
"""Of a disk that Postgres lives on."""
BALLAST: Final = "ballast"
ZEROS: Final = bytes(1 << 16)


class Disk:
    """A folder on a file system in memory; only root may mount one, elsewhere the folder is an ordinary one.

    Args:
        folder: Where it is mounted; made.
        size: How much fits, as `mount` takes it.
    """

    def __init__(self, folder: Path, *, size: str = SIZE) -> None:
        self.folder = folder
        folder.mkdir(mode=0o755)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(folder)]
        self.small = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
        """Whether it can be filled."""

    def fill(self, after: Callable[[], None]) -> Callable[[], None]:
        """Take all space; return what gives it back and then does something."""
        if not self.small:
            return lambda: None
        ballast = self.folder / BALLAST
        with ballast.open("wb", buffering=0) as handle, suppress(OSError):
            while True:  # until nothing is left, whatever else is written meanwhile
                handle.write(ZEROS)

        def give_back() -> None:
            ballast.unlink()
            after()

        return give_back

    def unmount(self) -> None:
        """Give it back."""
        if self.small:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)
