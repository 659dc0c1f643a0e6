"""The file beside the trending snapshot that keeps the hidden set: changes are appended, now and then it is rewritten.

A line is a checksum and JSON. One that a crash has cut off, or that a disk has spoilt, is passed over and counted.
"""

import json
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from bridge.visibility.changes import MAX_LINE_BYTES, Change, from_line, to_fields
from servicekit.files.replacement import PRIVATE, replacing, sync_folder

CHECKSUM_CHARACTERS: Final = 8


class HiddenFile:
    """Keeps changes on disk. One thread uses it at a time.

    Args:
        path: The file; its folder is made when missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self.lines = 0
        """Lines that the file has."""
        self.odd = 0
        """Lines that were passed over when it was read."""

    def load(self) -> Iterator[Change]:
        """Yield what the file keeps, in order; OSError where it is there and cannot be read."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return
        with file:
            while line := file.readline(MAX_LINE_BYTES + CHECKSUM_CHARACTERS + 2):
                if line == b"\n":
                    continue
                self.lines += 1
                try:
                    yield _read(line)
                except ValueError:
                    self.odd += 1

    def append(self, changes: Iterable[Change]) -> None:
        """Add changes, and return when they are on disk; OSError where that is not possible."""
        lines = [*map(_line, changes)]
        if not lines:
            return
        if self._descriptor is None:
            self._descriptor = self._open()
        data = b"".join(lines)
        if os.write(self._descriptor, data) != len(data):
            self.close()  # the next one begins on a line of its own
            raise OSError(f"{self._path} could not be written to as a whole")
        os.fdatasync(self._descriptor)
        self.lines += len(lines)

    def rewrite(self, changes: Iterable[Change]) -> None:
        """Replace all that the file has; OSError leaves it as it is."""
        count = 0
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self._path, mode=PRIVATE) as beside, beside.open("wb") as file:
            for change in changes:
                file.write(_line(change))
                count += 1
        self.close()
        self.lines = count

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None

    def _open(self) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        try:
            os.write(descriptor, b"\n")  # the last line may have been cut off
            sync_folder(self._path.parent)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor


def _line(change: Change) -> bytes:
    body = json.dumps(to_fields(change), ensure_ascii=False, separators=(",", ":")).encode()
    return b"%08x%b\n" % (zlib.crc32(body), body)


def _read(line: bytes) -> Change:
    checksum, body = line[:CHECKSUM_CHARACTERS], line[CHECKSUM_CHARACTERS:].rstrip(b"\n")
    if checksum != b"%08x" % zlib.crc32(body):
        raise ValueError("the checksum is wrong")
    return from_line(body)
