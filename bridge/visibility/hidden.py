"""The hidden set as the bridge keeps it: in memory for pages, on disk for a start that reaches nobody."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from bridge.domain.deadline import Clock
from bridge.domain.page import RankedVideo
from bridge.visibility.changes import Change, FromKafka, Stored
from bridge.visibility.hidden_file import HiddenFile
from bridge.visibility.hidden_set import HiddenSet
from servicekit.telemetry.metrics import NO_METRICS, Metric, Metrics

FILE_NAME: Final = "hidden.jsonl"
"""Beside the trending snapshot."""
STALE_S: Final = 2.0
"""Seconds without word from Postgres and Kafka after which replies say how old the knowledge is."""
SLACK_LINES: Final = 10_000
"""Lines that the file may have beyond twice what there is to keep."""

logger = structlog.get_logger(__name__)


class Hidden:
    """Says what no page may show, and keeps what becomes known of it. Belongs to one event loop.

    Args:
        path: The file that keeps it.
        metrics: Told how much there is and how old it is.
        clock: Monotonic seconds.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        path: Path,
        *,
        metrics: Metrics = NO_METRICS,
        clock: Clock = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.set = HiddenSet()
        self._file = HiddenFile(path)
        self._path = path
        self._metrics = metrics
        self._clock = clock
        self._now = now
        self._waiting: list[Change] = []
        self._writing = asyncio.Lock()
        self._kept = True
        self._heard_at = -STALE_S - 1
        self._as_of = 0.0

    def restore(self) -> None:
        """Read the file, and hide its videos from pages."""
        try:
            for change in self._file.load():
                self.set.apply(change)
            self._as_of = self._path.stat().st_mtime if self._file.lines else 0.0
        except OSError as error:
            logger.warning("hidden.not_restored", path=str(self._path), error=str(error))
            return
        if self._file.odd:
            logger.warning("hidden.odd_lines", path=str(self._path), lines=self._file.odd)
        logger.info("hidden.restored", videos=len(self.set), limited=self.set.limited)

    def may_show(self, videos: Sequence[RankedVideo], country: str) -> Sequence[RankedVideo]:
        """Return the videos without those that no page may show; themselves where that is all of them."""
        return self.set.may_show(videos, country, self._now() if self.set.limited else 0.0)

    def bars(self, country: str) -> Callable[[str, str], bool]:
        """Return what tells whether a video, by an author or an unknown one, may not be shown."""
        return self.set.bars(country, self._now())

    def unresolved_authors(self) -> Sequence[str]:
        """Return hidden authors whose videos are not known here: others must leave them out."""
        return self.set.unresolved_authors()

    @property
    def as_of(self) -> datetime | None:
        """The time (UTC) at which the set was last complete, while neither Postgres nor Kafka is reached; else None."""
        if self._clock() - self._heard_at <= STALE_S:
            return None
        return datetime.fromtimestamp(self._as_of, UTC)

    def heard(self, as_of_s: float, at: float) -> None:
        """Note that all was known that Postgres or Kafka has.

        Args:
            as_of_s: At which time, seconds since 1970.
            at: The same on the clock.
        """
        self._as_of = max(self._as_of, as_of_s)
        self._heard_at = max(self._heard_at, at)

    def clocks(self) -> tuple[float, float]:
        """Return the time, seconds since 1970 and on the clock, for `heard`."""
        return self._now(), self._clock()

    def report(self) -> None:
        """Tell how much is hidden, and how old the knowledge is."""
        self._metrics.gauge(Metric.HIDDEN_VIDEOS, len(self.set))
        self._metrics.gauge(Metric.HIDDEN_AGE, max(0.0, self._now() - self._as_of))

    def take_in(self, changes: Iterable[Change]) -> int:
        """Let pages obey changes at once; they are written to disk by `keep`. Return how many said anything new."""
        new = [change for change in changes if self.set.apply(change)]
        self._waiting += new
        return len([change for change in new if isinstance(change, Stored | FromKafka)])

    async def keep(self) -> bool:
        """Write to disk what was taken in; return once it is there, or False where that is not possible."""
        async with self._writing:  # who waits here finds nothing left, as one writing takes the changes of all
            changes, self._waiting = self._waiting, []
            if not changes:
                return self._kept
            try:
                if self._file.lines > 2 * self.set.size + SLACK_LINES or not self._kept:
                    await asyncio.to_thread(self._file.rewrite, self.set.changes())
                else:
                    await asyncio.to_thread(self._file.append, changes)
            except OSError as error:
                if self._kept:
                    logger.error("hidden.not_kept", path=str(self._path), error=str(error))  # noqa: TRY400  # no defect
                self._kept = False
            else:
                self._kept = True
        return self._kept

    async def close(self) -> None:
        """Write what is left, and close the file."""
        await self.keep()
        self._file.close()
