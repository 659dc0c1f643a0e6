"""Writes lines to a stream that may stall, without making the writer of a line wait."""

import atexit
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

MAX_WAITING_BYTES: Final = 4 * 1024 * 1024
FLUSH_S: Final = 2.0
"""Seconds that the end of a program waits for lines that nobody takes."""


class LineWriter:
    """Writes to a file descriptor from a thread of its own; counts and later reports lines without room.

    A pipe that nobody empties, a terminal that was stopped and a disk that hangs hold up that thread alone.

    Args:
        descriptor: Where the lines go. Not a stream: its lock would be held for as long as the thread hangs, and the
            interpreter wants it at its end.
        lost: Makes the line that tells how many were lost.
        max_bytes: Bytes that wait at most.
    """

    def __init__(self, descriptor: int, lost: Callable[[int], str], *, max_bytes: int = MAX_WAITING_BYTES) -> None:
        self._descriptor = descriptor
        self._lost = lost
        self._max_bytes = max_bytes
        self._lines: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._untold = 0
        self._changed = threading.Condition()
        self.lost = 0
        """Lines that were lost so far."""
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()
        atexit.register(self.drain)

    def write(self, text: str) -> int:
        """Queue whole lines."""
        line = text.encode("utf-8", "backslashreplace")
        with self._changed:
            if self._waiting_bytes + len(line) > self._max_bytes:
                self.lost += 1
                self._untold += 1
            else:
                self._lines.append(line)
                self._waiting_bytes += len(line)
                self._changed.notify_all()
        return len(text)

    def flush(self) -> None:
        """Do nothing: this class exists to avoid that wait."""

    def drain(self, timeout_s: float = FLUSH_S) -> bool:
        """Wait until everything is written, up to a time; return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting_bytes, timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                line = self._lines.popleft()
                untold, self._untold = self._untold, 0
            if untold:
                self._write(self._lost(untold).encode())
            # One by one: a pipe takes up to 4 KiB whole, so lines of processes that share it stay apart.
            self._write(line)
            with self._changed:
                self._waiting_bytes -= len(line)
                self._changed.notify_all()

    def _write(self, data: bytes) -> None:
        """Write all; lose the rest if the disk is full or the reader is gone."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # somebody who shares it has made it non-blocking
                with suppress(OSError):
                    select.select([], [self._descriptor], [], 1.0)
            except OSError:
                self.lost += 1
                return
