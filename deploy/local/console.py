"""What the person at the terminal sees: one line a step, with the seconds it took."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

WIDTH = 88


def say(text: str = "") -> None:
    """Print a line; a closed terminal is no reason to fail."""
    with suppress(OSError, ValueError):
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


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
