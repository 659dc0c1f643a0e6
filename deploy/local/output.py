"""Prints progress for the person at the terminal: one line a step, with the seconds it took."""

import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WIDTH = 88


def say(text: str = "") -> None:
    """Print a line; ignore a closed terminal."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # what is left would fail again at the exit


class Terminal:
    """The terminal of the output, if it is one.

    One that closes tells only the leader of its session, and `make` as the leader would wait for this program.
    """

    def __init__(self) -> None:
        self._hang_up = select.poll()
        if sys.stdout.isatty():
            self._hang_up.register(sys.stdout.fileno(), 0)  # hang-ups are reported unasked

    @property
    def closed(self) -> bool:
        """Return whether the terminal is closed."""
        return bool(self._hang_up.poll(0))


class Step:
    """A step under way; `title` may be made more precise before it ends."""

    def __init__(self, title: str) -> None:
        self.title = title


@contextmanager
def step(title: str) -> Iterator[Step]:
    """Print the step's line when the block has succeeded."""
    begun = time.monotonic()
    current = Step(title)
    yield current
    say(f"  {current.title:<{WIDTH}} {time.monotonic() - begun:6.1f} s")
