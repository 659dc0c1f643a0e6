"""Shows the progress of long work: a bar on a terminal, a line an epoch elsewhere."""

import sys
import time
from collections.abc import Iterator
from typing import Protocol

import structlog
from tqdm import tqdm

logger = structlog.get_logger("retrain")


class Progress(Protocol):
    """Shows the progress of long work."""

    def epochs(self, title: str, count: int) -> Iterator[int]:
        """Yield 0..count-1, showing the progress and its speed."""


class Bars:
    """Progress bars on standard error."""

    def epochs(self, title: str, count: int) -> Iterator[int]:
        """Yield 0..count-1 with a bar."""
        yield from tqdm(range(count), desc=title, unit="epoch", file=sys.stderr)


class Lines:
    """A log line for each epoch, with its seconds."""

    def epochs(self, title: str, count: int) -> Iterator[int]:
        """Yield 0..count-1 with a log line after each."""
        for epoch in range(count):
            begin = time.monotonic()
            yield epoch
            logger.info(
                "epoch.done", fit=title, epoch=epoch + 1, epochs=count, seconds=round(time.monotonic() - begin, 2)
            )


def choose_progress() -> Progress:
    """Return the progress display that suits standard error."""
    return Bars() if sys.stderr.isatty() else Lines()
