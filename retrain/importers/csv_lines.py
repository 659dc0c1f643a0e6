"""Counts the lines of a text file, independently of the database's reader.

What that reader makes of a file is compared with the number of lines that there are: a quote that never ends takes the
rest of the file with it, and would do so unnoticed. Line ends that differ within a file, which the reader refuses, are
made alike first.
"""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

import numpy as np

_BLOCK: Final = 1 << 22
_NEWLINE: Final = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class LineCounts:
    """Numbers of lines and bytes of a file."""

    total: int
    blank: int
    has_quotes: bool
    is_mixed: bool
    """Whether lines end in more than one way, or in a bare carriage return."""

    @property
    def filled(self) -> int:
        """Return the number of lines that are not blank."""
        return self.total - self.blank


def count_lines(path: Path, *, compressed: bool) -> LineCounts:
    """Return the counts of a file's lines; OSError or EOFError when it cannot be read."""
    total = blank = with_return = bare_returns = 0
    has_quotes, last = False, _NEWLINE
    for block in _blocks(path, compressed=compressed):
        pairs = block.count(b"\r\n")
        with_return += pairs
        bare_returns += block.count(b"\r") - pairs
        has_quotes = has_quotes or b'"' in block
        ends = np.frombuffer(_alike(block), np.uint8) == _NEWLINE
        total += int(ends.sum())
        blank += int((ends[1:] & ends[:-1]).sum()) + int(ends[0] and last == _NEWLINE)
        last = _NEWLINE if ends[-1] else 0
    plain = total - with_return - bare_returns
    return LineCounts(
        total=total + (last != _NEWLINE),
        blank=blank,
        has_quotes=has_quotes,
        is_mixed=bool(bare_returns or (with_return and plain)),
    )


def copy_alike(path: Path, target: Path, *, compressed: bool) -> None:
    """Copy a file's lines so that all end in a line feed."""
    with target.open("wb") as copied:
        for block in _blocks(path, compressed=compressed):
            copied.write(_alike(block))


def _alike(block: bytes) -> bytes:
    return block.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in block else block


def _blocks(path: Path, *, compressed: bool) -> Iterator[bytes]:
    """Yield a file's bytes; no block ends between a carriage return and a line feed."""
    with cast(IO[bytes], gzip.open(path, "rb") if compressed else path.open("rb")) as file:
        while block := file.read(_BLOCK):
            while block.endswith(b"\r") and (more := file.read(1)):
                block += more
            yield block
