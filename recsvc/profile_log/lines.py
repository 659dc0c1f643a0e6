"""The lines of a file that grows, read in steps of bounded size."""

import os
from collections.abc import Callable, Iterator
from typing import Final

from recsvc.profile_log.entry import MAX_LINE_BYTES

STEP_BYTES: Final = 1 << 16
"""Bytes after which a reader pauses: other threads wait for the interpreter meanwhile."""

Pause = Callable[[], None]


def whole_lines(descriptor: int, start: int, end: int, pause: Pause) -> Iterator[tuple[int, bytes]]:
    """Yield the place after each whole line, and the line with its end.

    What is longer than any entry comes as an empty line, and its rest as a line that is none.

    Args:
        descriptor: Of the file.
        start: Where the first line begins.
        end: Where to stop at the latest.
        pause: Called between two steps.
    """
    place, read = start, 0
    while place < end:
        data = os.pread(descriptor, min(MAX_LINE_BYTES, end - place), place)
        whole = data.rfind(b"\n") + 1
        if not whole:
            if len(data) < MAX_LINE_BYTES:
                return  # cut short by a crash, or by the end
            place += len(data)
            yield place, b""
            pause()
        for line in data[:whole].splitlines(keepends=True):
            place += len(line)
            yield place, line
            read += len(line)
            if read >= STEP_BYTES:
                pause()
                read = 0
