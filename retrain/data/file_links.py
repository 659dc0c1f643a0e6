"""Links files under names that DuckDB cannot misread.

DuckDB takes `[ ] * ?` in a path for a pattern, a backslash for a separator, and a folder `column=value` for a column.
No escape covers all of it. So it gets links of this program's own naming, by way of the descriptor of their folder:
neither the name of a file nor that of any folder above it reaches DuckDB.
"""

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_LINK: Final = re.compile(r"/proc/self/fd/\d+/links-\w+/(\d+)")


class FileLinks:
    """Links of the files that one database reads and writes.

    Args:
        parent: A folder for scratch files; that of the links, which is made in it, is removed when this is closed.
    """

    def __init__(self, parent: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="links-", dir=parent)
        self._descriptor = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._paths: list[Path] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, path: Path) -> str:
        """Return the name by which DuckDB finds a file."""
        link = Path(self._folder.name) / f"{len(self._paths):06}"
        link.symlink_to(path.absolute())
        self._paths.append(path)
        return self.scratch(f"{link.parent.name}/{link.name}")

    def scratch(self, name: str) -> str:
        """Return the name by which DuckDB finds a scratch file in the parent folder."""
        return f"/proc/self/fd/{self._descriptor}/{name}"

    def sql(self, paths: Sequence[Path]) -> str:
        """Return files as a list in SQL."""
        return "[" + ", ".join(f"'{self.add(path)}'" for path in paths) + "]"

    def told(self, error: Exception) -> str:
        """Return the first line of an error of DuckDB, with the names of files in place of those of links."""
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        return _LINK.sub(lambda link: file_name(self._paths[int(link[1])]), line).rstrip(".")

    def close(self) -> None:
        """Remove the links."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._folder.cleanup()


def file_name(path: Path) -> str:
    """Return the end of the path that tells files apart: a day's file stands below its day."""
    return "/".join(path.parts[-2:])
