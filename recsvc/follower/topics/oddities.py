"""Messages that could not be read: counted by reason, and told of in one line at times, not in one each."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import structlog

from servicekit.telemetry.metrics import Metric, Metrics

MALFORMED: Final = "malformed"
"""Not what its topic holds."""
NEWER_SCHEMA: Final = "newer_schema"
"""In a form that only a later release knows."""
DEFECT: Final = "defect"
"""What no reader expected, which is a fault of this program."""
REPORT_EVERY_S: Final = 10.0

logger = structlog.get_logger(__name__)


class Oddities:
    """Counts messages that were passed over.

    Args:
        metrics: Told of each, by reason.
        clock: Seconds, ascending.
    """

    def __init__(self, metrics: Metrics, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._clock = clock
        self._untold: Counter[str] = Counter()
        self._uncounted: Counter[str] = Counter()
        self._example = ""
        self._due = 0.0

    def add(self, reason: str, message: Any, error: Exception, *, times: int = 1) -> None:
        """Count a message, or so many parts of one."""
        self._untold[reason] += times
        self._uncounted[reason] += times
        if not self._example or reason == DEFECT:
            place = f"{message.topic()} {message.partition()}@{message.offset()}"
            self._example = f"{place}: {type(error).__name__}: {error}"[:300]

    def report(self) -> None:
        """Send the counts to the metrics, and to the log unless it got a line moments ago."""
        for reason, count in self._uncounted.items():
            self._metrics.count(Metric.LIVE_MALFORMED, count, tags=[f"reason:{reason}"])
        self._uncounted.clear()
        if self._untold and self._clock() >= self._due:
            logger.warning("live.malformed", **self._untold, example=self._example)
            self._untold.clear()
            self._example = ""
            self._due = self._clock() + REPORT_EVERY_S
