"""Runs background jobs at a pace that failures do not change, and sets bad rows aside.

Every periodic job of the bridge is a `Job`, so that each has the same answer to a step that fails: the pause grows
from `retry_s` to the job's own interval and never shrinks below it for a defect that stays, one log line says that it
began and one that it ended, and a metric counts.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import Final, TypeAlias, TypeVar

import structlog

from bridge.postgres.pool import DatabaseUnavailableError
from servicekit.telemetry.metrics import NO_METRICS, Metric, Metrics

RETRY_S: Final = 1.0
MAX_NAMED: Final = 5
"""Rows that a log line names."""
MAX_NAME: Final = 128

Row = TypeVar("Row")
Value = TypeVar("Value")
Step: TypeAlias = Callable[[], Awaitable[float | None]]
"""Does the work once; returns the seconds until the next time, None for the job's interval."""

logger = structlog.get_logger(__name__)


class Job:
    """Repeats a step, forever.

    Where Postgres is away, the step is tried again each `retry_s` seconds, which costs nothing, and nothing is logged:
    the database says so itself. Any other failure is logged once, and again when it becomes another one.

    Args:
        name: By which logs and metrics know it.
        step: The work.
        interval_s: Seconds between two steps, and the longest pause after a failure.
        retry_s: Seconds after the first failure; doubled after each further one.
        metrics: Counts failures.
        sleep: Waits.
    """

    def __init__(
        self,
        name: str,
        step: Step,
        *,
        interval_s: float,
        retry_s: float = RETRY_S,
        metrics: Metrics = NO_METRICS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._name = name
        self._step = step
        self._interval_s = interval_s
        self._retry_s = retry_s
        self._metrics = metrics
        self._sleep = sleep
        self._failures = 0
        self._failure = ""

    async def run(self) -> None:
        """Run the step again and again; forever."""
        while True:
            await self._sleep(await self.work())

    async def work(self) -> float:
        """Run the step once, and return the seconds until the next time."""
        try:
            pause_s = await self._step()
        except DatabaseUnavailableError:
            return self._retry_s
        except Exception as error:  # noqa: BLE001  # whatever it is, the job logs it and goes on
            return self._failed(error)
        if self._failures:
            logger.info("job.recovered", job=self._name, failures=self._failures)
        self._failures, self._failure = 0, ""
        return self._interval_s if pause_s is None else pause_s

    def _failed(self, error: Exception) -> float:
        """Log a new failure, and return the seconds until the next try."""
        self._metrics.count(Metric.JOB_FAILED, tags=[f"job:{self._name}"])
        if (failure := type(error).__name__) != self._failure:
            logger.error("job.failed", job=self._name, exc_info=error)
        self._failure = failure
        pause_s = min(self._retry_s * 2.0 ** min(self._failures, 32), max(self._interval_s, self._retry_s))
        self._failures += 1
        return pause_s


class SetAside:
    """Separates unusable rows from the others: counts each, and names some.

    Args:
        job: Whose rows they are.
        metrics: Told how many there were.
    """

    def __init__(self, job: str, metrics: Metrics = NO_METRICS) -> None:  # without state
        self._job = job
        self._metrics = metrics
        self._rows: dict[str, str] = {}
        self._count = 0
        self._told = False

    def usable(
        self, rows: Iterable[Row], read: Callable[[Row], Value], name: Callable[[Row], object]
    ) -> Iterable[Value]:
        """Yield what `read` makes of the rows; set aside each row for which it raises."""
        for row in rows:
            try:
                value = read(row)
            except Exception as error:  # noqa: BLE001  # a row is data, whatever it makes a reader raise
                self.add(str(name(row)), error)
            else:
                yield value

    def add(self, name: str, problem: object, rows: int = 1) -> None:
        """Set a row aside, or several rows under one name."""
        self._count += rows
        if len(self._rows) < MAX_NAMED:
            self._rows[name[:MAX_NAME]] = str(problem)[:MAX_NAME]

    def report(self) -> int:
        """End a round: report the number of rows set aside, log when that begins or ends, and return it."""
        count, rows = self._count, dict(islice(self._rows.items(), MAX_NAMED))
        self._count, self._rows = 0, {}
        if count:
            self._metrics.count(Metric.ROWS_SET_ASIDE, count, tags=[f"job:{self._job}"])
        if bool(count) != self._told:
            self._told = bool(count)
            if count:
                logger.warning("rows.set_aside", job=self._job, count=count, rows=rows)
            else:
                logger.info("rows.all_usable", job=self._job)
        return count
