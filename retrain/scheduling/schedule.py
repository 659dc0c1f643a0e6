"""Decides which days are due, and runs them one after another, independently of any stores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final

import structlog

from retrain.data.exports import midnight
from retrain.errors import Reason, RunError
from retrain.exit_status import FAILED
from retrain.run_log.row import RunRow, State
from retrain.scheduling.tracked_run import store_failures

logger = structlog.get_logger("retrain")

START: Final = time(2)
"""UTC; the day before is due from then on."""
ATTEMPTS: Final = 3
"""Failed runs after which a day is left to people."""


def due_days(
    complete: Sequence[date],
    runs: Sequence[RunRow],
    *,
    now: datetime,
    live_until: datetime | None,
    catch_up_days: int,
) -> list[date]:
    """Return the days that should be trained on now, oldest first.

    Args:
        complete: Days whose exports are complete.
        runs: Earlier runs.
        now: The time (UTC).
        live_until: End of the data of the live model; None where none is live, then only the newest day is due.
        catch_up_days: Days to look back.
    """
    newest = (now - timedelta(hours=START.hour)).date() - timedelta(days=1)
    oldest = newest - timedelta(days=catch_up_days - 1)
    due = [
        day
        for day in sorted(complete)
        if oldest <= day <= newest
        and not _is_settled(day, runs)
        and (live_until is None or midnight(day + timedelta(days=1)) > live_until)
    ]
    return due if live_until else due[-1:]


def seconds_to_start(now: datetime) -> float:
    """Return the seconds until the next start of the night's work."""
    start = datetime.combine(now.date(), START, now.tzinfo)
    return ((start if start > now else start + timedelta(days=1)) - now).total_seconds()


def _is_settled(day: date, runs: Sequence[RunRow]) -> bool:
    of_day = [row for row in runs if row.run_date == day]
    failed = [row for row in of_day if row.state is State.FAILED and row.reason not in (Reason.BUSY, Reason.LOCK)]
    return len(failed) >= ATTEMPTS or any(row.state in (State.SUCCEEDED, State.REJECTED) for row in of_day)


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """Runs due days.

    Attributes:
        due: Returns the days that are due, oldest first.
        run: Runs a day to its end and returns the exit status.
        wait: Waits so many seconds; returns whether it is time to stop.
        now: The time (UTC).
        retry_s: Seconds until it looks again for what is due.
    """

    due: Callable[[], list[date]]
    run: Callable[[date], int]
    wait: Callable[[float], bool]
    now: Callable[[], datetime]
    retry_s: float

    def serve(self) -> None:
        """Run days when they are due, until told to stop."""
        pause = 0.0
        while not self.wait(pause):
            status = self._next()
            # After a success the next missed day may follow at once.
            pause = 0.0 if status == 0 else min(self.retry_s, seconds_to_start(self.now()))

    def once(self) -> int:
        """Run the due days now, report when none is, and return the first exit status but 0; a failure ends it."""
        while not self.wait(0.0):
            status = self._next()
            if status is None:
                logger.info("schedule.idle")
                return 0
            if status:
                return status
        return 0

    def _next(self) -> int | None:
        """Run the oldest due day and return its status: FAILED if due days cannot be found, None if none is due."""
        try:
            with store_failures():
                days = self.due()
        except RunError as failure:
            logger.error("schedule.blind", problem=str(failure))  # noqa: TRY400  # one line says it
            return FAILED
        if not days:
            return None
        logger.info("schedule.run", day=str(days[0]), waiting=len(days) - 1)
        status = self.run(days[0])
        logger.info("schedule.ended", day=str(days[0]), status=status)
        return status
