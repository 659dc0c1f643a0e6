"""Makes the file of the profile log anew, without what was erased and what is too old to keep."""

import os
import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from recsvc.profile_log.entry import erasure, owner
from recsvc.profile_log.lines import Pause, whole_lines
from servicekit.files.replacement import sync_folder
from servicekit.user_fingerprint import user_fingerprint

_HEADER: Final = re.compile(rb'\{"compaction":"(\d{12})","base":"(\d{15})","late":"([01])"\}\n')
_FORGET: Final = b'"forget":'
_ROUNDS: Final = 5
_SHORT_BYTES: Final = 1 << 18
"""So many may be added while all writers wait."""


def no_pause() -> None:
    """Go on at once."""


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a compacted file; one that never was compacted has none."""

    number: int = 0
    """How often the file was compacted."""
    base: int = 0
    """Bytes that hold what the file before held."""
    late: bool = False
    """Whether some of it was erased too late to leave the file."""

    @classmethod
    def read(cls, descriptor: int) -> Self:
        """Return a file's header."""
        found = _HEADER.match(os.pread(descriptor, 128, 0))
        return cls(int(found[1]), int(found[2]), found[3] == b"1") if found else cls()

    def encode(self) -> bytes:
        """Return the line, of one length whatever it holds."""
        return b'{"compaction":"%012d","base":"%015d","late":"%d"}\n' % (self.number, self.base, self.late)


class Compaction:
    """One rewrite of the file; a context that leaves nothing behind.

    Args:
        path: Of the file, which only grows until `finish`.
        max_bytes: Updates beyond this are dropped, oldest first, until half of it is left.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._partial = path.with_suffix(".partial")
        self._files = ExitStack()
        self._erased: dict[bytes, int] = {}
        self._updates = 0
        self._excess = 0
        self._place = 0
        self._surveyed = 0
        self._late = False

    def __enter__(self) -> Self:
        with ExitStack() as files:
            self._source = files.enter_context(self._path.open("rb"))
            self._number = Header.read(self._source.fileno()).number + 1
            descriptor = os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            self._target = files.enter_context(os.fdopen(descriptor, "r+b"))
            files.callback(self._partial.unlink, missing_ok=True)
            self._files = files.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def write(self, pause: Pause) -> None:
        """Write what is to be kept of what the file holds now; nobody waits for this."""
        end = self._size()
        for _, line in whole_lines(self._source.fileno(), 0, end, pause):
            self._survey(line)
        self._surveyed = end
        self._excess = self._updates - self._max_bytes // 2 if end > self._max_bytes else 0
        self._target.write(Header(self._number).encode())
        self._copy(end, pause)
        for _ in range(_ROUNDS):
            if self._size() - self._place <= _SHORT_BYTES:
                break
            self._copy(self._size(), pause)
        self._sync()

    def finish(self, current: BinaryIO) -> bool:
        """Add what came meanwhile and replace the file; False, and nothing is done, where it is another one by now.

        Args:
            current: The file that the path names, whose lock is held.
        """
        if os.fstat(current.fileno()).st_ino != os.fstat(self._source.fileno()).st_ino:
            return False
        while rest := os.pread(self._source.fileno(), _SHORT_BYTES, self._place):
            self._late |= _FORGET in rest
            self._target.write(rest)  # also a line that a crash cut short, which the next one is kept apart from
            self._place += len(rest)
        base = self._target.tell()
        self._target.seek(0)
        self._target.write(Header(self._number, base, self._late).encode())
        self._sync()
        self._partial.replace(self._path)
        sync_folder(self._path.parent)
        return True

    def _size(self) -> int:
        return os.fstat(self._source.fileno()).st_size

    def _sync(self) -> None:
        self._target.flush()
        os.fsync(self._target.fileno())

    def _survey(self, line: bytes) -> None:
        if found := erasure(line):
            mark, at_ms = found
            self._erased[mark] = max(at_ms, self._erased.get(mark, at_ms))
        else:
            self._updates += len(line)

    def _copy(self, end: int, pause: Pause) -> None:
        for place, line in whole_lines(self._source.fileno(), self._place, end, pause):
            is_header = self._place == 0 and _HEADER.match(line)
            if not is_header and line.strip() and self._is_kept(line):
                self._target.write(line)
                self._late |= place > self._surveyed and _FORGET in line
            self._place = place

    def _is_kept(self, line: bytes) -> bool:
        if found := erasure(line):
            mark, at_ms = found
            return at_ms >= self._erased.get(mark, at_ms)
        told = owner(line)
        if told and told[1] <= self._erased.get(user_fingerprint(told[0]), told[1] - 1):
            self._excess -= len(line)
            return False
        if self._excess > 0:
            self._excess -= len(line)
            return False
        return True
