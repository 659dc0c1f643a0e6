"""What callers told this server of viewers, in one file that its processes share and a restart finds again.

One JSON object a line, appended under a lock. A reader takes what was added since it last looked; when the file was
rewritten, it starts from its beginning, so applying an entry twice must change nothing. A shared count of changes tells
readers when to look: a change that was acknowledged anywhere is known everywhere from the next call on.
"""

import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

from recsvc.generation import Generation

Entry: TypeAlias = dict[str, Any]

MOST_BYTES: Final = 64 * 2**20
"""A larger file loses the older half of the entries that `keep` does not hold on to."""


class Journal:
    """Entries in one file.

    Args:
        path: Made when missing, with its folder; readable by its owner only.
        keep: Tells which entries must never be dropped for size.
        most_bytes: Size from which entries are dropped.
    """

    def __init__(self, path: Path, keep: Callable[[Entry], bool], *, most_bytes: int = MOST_BYTES) -> None:
        self._path = path
        self._keep = keep
        self._most_bytes = most_bytes
        self._place = (0, 0, 0)
        self._known = -1
        self._following = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._generation = Generation(path.with_suffix(".count"))
        self._rewrites = Generation(path.with_suffix(".rewrites"))

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries; they are on disk when this returns."""
        with self._locked() as handle:
            size = handle.seek(0, os.SEEK_END)
            if size and os.pread(handle.fileno(), 1, size - 1) != b"\n":
                handle.write(b"\n")  # after a line that a crash cut short
            _write(handle, entries)
            if handle.tell() > self._most_bytes:
                self._halve(handle)
            self._generation.advance()

    def rewrite(self, wanted: Callable[[Entry], bool], entries: Sequence[Entry] = ()) -> None:
        """Keep only the entries that are wanted, and add some."""
        with self._locked() as handle:
            self._replace([*filter(wanted, _parse(handle.read())), *entries])
            self._generation.advance()

    def follow(self, apply: Callable[[Entry], None]) -> None:
        """Apply the entries that were not applied yet; cheap when there are none. OSError when it cannot be read."""
        generation = self._generation.get()
        if generation == self._known:
            return
        # Moved on only when all is applied: whoever finds nothing to do may count on that.
        with self._following:
            if self._path.exists():
                self._apply_rest(apply)
            self._known = generation

    def _apply_rest(self, apply: Callable[[Entry], None]) -> None:
        rewrites = self._rewrites.get()  # as a later file may get an earlier one's inode
        with self._path.open("rb") as handle:
            inode = os.fstat(handle.fileno()).st_ino
            start = self._place[2] if (rewrites, inode) == self._place[:2] else 0
            handle.seek(start)
            data = handle.read()
            whole = data.rfind(b"\n") + 1
            for entry in _parse(data[:whole]):
                apply(entry)
            self._place = (rewrites, inode, start + whole)

    def _halve(self, handle: BinaryIO) -> None:
        handle.seek(0)
        entries = list(_parse(handle.read()))
        half = len(entries) // 2
        self._replace([*filter(self._keep, entries[:half]), *entries[half:]])

    def _replace(self, entries: Sequence[Entry]) -> None:
        partial = self._path.with_suffix(".partial")
        with _open(partial, os.O_TRUNC) as handle:
            _write(handle, entries)
        self._rewrites.advance()
        partial.replace(self._path)

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        """Open the file that the path names, and hold its lock: a rewrite may have replaced it meanwhile."""
        while True:
            with _open(self._path, os.O_APPEND) as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                if os.fstat(handle.fileno()).st_ino == self._path.stat().st_ino:
                    handle.seek(0)
                    yield handle
                    return


def _open(path: Path, flags: int) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600), "r+b")


def _write(handle: BinaryIO, entries: Sequence[Entry]) -> None:
    handle.write(b"".join(json.dumps(entry, separators=(",", ":")).encode() + b"\n" for entry in entries))
    handle.flush()
    os.fsync(handle.fileno())


def _parse(data: bytes) -> Iterator[Entry]:
    """Yield the entries; a line that a crash cut short is passed over."""
    for line in data.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            yield entry
