"""What callers told this server of users, in one file that its processes share and a restart finds again.

Updates and erasures are appended under a lock, and never anything else: no call waits for more than its own lines. A
reader takes what was added since it last looked, in steps. What was erased leaves the file when it is compacted; then
another file stands in its place. Its first line tells which bytes of it readers of the file before know already, so
that they go on where they were. Applying an entry twice must change nothing: who starts anew begins at the beginning.
"""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import structlog

from recsvc.profile_log.compaction import Compaction, Header, no_pause
from recsvc.profile_log.entry import Entry, Erasure, decode, encode
from recsvc.profile_log.lines import Pause, whole_lines
from recsvc.workers.change_counter import SharedCounter
from servicekit.files.lock import FOR_EVER, lock

MAX_BYTES: Final = 64 * 2**20
"""A larger file loses its oldest updates, until it has half of this; erasures stay."""
ERASED_AFTER_S: Final = 30.0
"""Seconds after which what was erased leaves the file: several erasures share a rewrite."""

logger = structlog.get_logger(__name__)


class ProfileLog:
    """Entries in one file.

    Args:
        path: Made when missing, with its folder; readable by its owner only.
        max_bytes: See `MAX_BYTES`.
        clock: Monotonic seconds.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._clock = clock
        self._following = threading.Lock()
        self._source: _Source | None = None
        self._header = Header()
        self._place = 0
        self._erased_at: float | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        self._generation = SharedCounter(path.with_suffix(".count"))
        self._known = -1

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries; they are on disk when this returns. OSError when it refuses, also where updates find no room."""
        data = b"".join(map(encode, entries))
        with self._locked() as handle:
            size = handle.seek(0, os.SEEK_END)
            if not all(isinstance(one, Erasure) for one in entries):
                self._check_room(handle, size)
            if size and os.pread(handle.fileno(), 1, size - 1) != b"\n":
                data = b"\n" + data  # after a line that a crash cut short
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
            self._generation.advance()

    def follow(self, apply: Callable[[Entry], None], pause: Pause = no_pause) -> None:
        """Apply the entries that were not applied yet; cheap when there are none. OSError when they cannot be read.

        Args:
            apply: Given each entry; what is no entry of this release is passed over.
            pause: Called between two steps.
        """
        generation = self._generation.get()
        if generation == self._known:
            return
        with self._following:
            while True:
                is_last = not self._is_replaced()  # before it is read to its end, which no longer moves then
                self._apply_rest(apply, pause)
                if is_last:
                    break
                self._open_next()
            self._known = generation

    def is_due(self) -> bool:
        """Return whether it is time to compact, as far as this reader has read."""
        if self._erased_at is not None and self._clock() - self._erased_at >= ERASED_AFTER_S:
            return True
        return self._place > self._max_bytes and self._place - self._header.base > self._max_bytes // 4

    def compact(self, pause: Pause = no_pause) -> None:
        """Put a file without what was erased in place of this one, unless another process does; OSError if it cannot.

        Nobody waits for it but at its end, when the few entries that came meanwhile are added.

        Args:
            pause: Called between two steps.
        """
        with _only_one(self._path.with_suffix(".compacting")) as is_ours:
            if not is_ours:
                return
            with Compaction(self._path, self._max_bytes) as compaction:
                compaction.write(pause)
                with self._locked() as handle:
                    if compaction.finish(handle):
                        self._generation.advance()

    def _check_room(self, handle: BinaryIO, size: int) -> None:
        """Refuse updates that come faster than the file is compacted."""
        if size > 2 * self._max_bytes and size - Header.read(handle.fileno()).base > 2 * self._max_bytes:
            raise OSError(errno.ENOSPC, "the journal is full until it is compacted")

    def _apply_rest(self, apply: Callable[[Entry], None], pause: Pause) -> None:
        if self._source is None:
            return
        descriptor = self._source.descriptor
        end = os.fstat(descriptor).st_size
        for place, line in whole_lines(descriptor, self._place, end, pause):
            is_header = self._place == 0 and self._header.number > 0
            self._place = place
            if is_header or not line.strip():
                continue
            try:
                entry = decode(line)
            except ValueError as error:
                logger.warning("journal.entry_unreadable", problem=str(error)[:200])
                continue
            apply(entry)
            if isinstance(entry, Erasure) and place > self._header.base and self._erased_at is None:
                self._erased_at = self._clock()

    def _is_replaced(self) -> bool:
        """Return whether the path names another file than the one that is read."""
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False
        return self._source is None or os.fstat(self._source.descriptor).st_ino != now.st_ino

    def _open_next(self) -> None:
        source = _Source(self._path)
        header = Header.read(source.descriptor)
        follows = self._source is not None and header.number == self._header.number + 1
        self._place = header.base if follows else 0
        self._source, self._header = source, header
        self._erased_at = self._clock() if header.late else None

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        """Open the file that the path names, and hold its lock: another one may have replaced it meanwhile."""
        while True:
            with open_private(self._path, os.O_APPEND) as handle:
                lock(handle.fileno(), patience_s=FOR_EVER)
                if os.fstat(handle.fileno()).st_ino == self._path.stat().st_ino:
                    yield handle
                    return


class _Source:
    """A file that is open for as long as somebody reads it: so its inode is no other file's."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


def open_private(path: Path, flags: int = 0) -> BinaryIO:
    """Open a file to read and write, readable by its owner only; made when missing."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600), "r+b")


@contextmanager
def _only_one(path: Path) -> Iterator[bool]:
    """Yield whether no other process is in this block."""
    with open_private(path) as handle:
        try:
            lock(handle.fileno())
        except BlockingIOError:
            yield False
        else:
            yield True
