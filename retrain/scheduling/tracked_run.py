"""Watches over one run: excludes others by a lock, records it, counts it, and reports it to Snowflake."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

import duckdb
import structlog

from retrain.errors import Reason, RunError
from retrain.run_log.row import RunFigures, RunRow, State
from retrain.run_log.store import Runs
from retrain.scheduling.lock import Lock
from servicekit.process.periodic_thread import PeriodicThread
from servicekit.storage.object_store import ObjectNotFoundError

logger = structlog.get_logger("retrain")

BEAT_S: Final = 15.0
DUCKDB: Final = (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.TransactionException, duckdb.FatalException)
"""What DuckDB raises when disk or memory does not suffice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLease:
    """The lease of a run that is the only one.

    Attributes:
        check: Raises RunError when the lock was lost.
        dated: Is told the last day that is trained on, as soon as it is known.
    """

    check: Callable[[], None]
    dated: Callable[[date], None]


class TrackedRun:
    """Watches over one run.

    Args:
        take: Takes the lock; RunError when it cannot.
        runs: Keeps runs.
        figures: Returns what the run has to show by now.
        told: Is given the run when it has ended: for metrics, and for Snowflake.
        now: The time (UTC).
    """

    def __init__(
        self,
        *,
        take: Callable[[], Lock],
        runs: Runs,
        figures: Callable[[], RunFigures],
        told: Callable[[RunRow], None],
        now: Callable[[], datetime],
    ) -> None:
        self._take, self._runs, self._figures, self._told, self._now = take, runs, figures, told, now

    @contextmanager
    def running(self, last: date | None) -> Iterator[RunLease]:
        """Yield while the lock is held; record any error that ends the run, and raise it as a RunError if foreseen."""
        self._row = RunRow.begun(last, self._now())
        with ExitStack() as until_told, self._told_of_end(), store_failures():
            lock = self._take()
            until_told.callback(lock.release)
            orphans = self._runs.end_orphans(self._row.started_at)
            if orphans:
                logger.warning("runs.orphaned", count=orphans)
            self._runs.save(self._row)
            with _beating(lambda: self._runs.beat(self._row.run_id, self._now())):
                yield RunLease(check=lock.check, dated=self._date)

    @contextmanager
    def _told_of_end(self) -> Iterator[None]:
        """Record and report the end of the run."""
        try:
            yield
        except RunError as failure:
            self._end(State.REJECTED if failure.is_rejection else State.FAILED, (failure.reason, str(failure)))
            raise
        except (SystemExit, KeyboardInterrupt):
            self._end(State.FAILED, (Reason.KILLED, "the process was told to end"))
            raise
        except BaseException as error:
            self._end(State.FAILED, (Reason.INTERNAL, f"{type(error).__name__}: {error}"))
            raise
        self._end(State.SUCCEEDED)

    def _date(self, day: date) -> None:
        self._row = self._row.dated(day, self._now())
        self._runs.save(self._row)

    def _end(self, state: State, failure: tuple[Reason, str] | None = None) -> None:
        ended = self._row.ended(state, self._now(), failure, self._figures())
        try:
            self._runs.save(ended)
        except (RunError, OSError) as problem:
            logger.error("runs.not_kept", problem=str(problem))  # noqa: TRY400  # one line says it
        try:
            self._told(ended)
        except Exception:
            logger.exception("runs.not_told")


@contextmanager
def store_failures() -> Iterator[None]:
    """Convert errors of disks and stores to RunError."""
    try:
        yield
    except ObjectNotFoundError as error:
        raise RunError(Reason.STORE, f"{error} was removed meanwhile; try again") from error
    except (OSError, *DUCKDB) as error:
        raise RunError(Reason.STORE, " ".join(str(error).split())) from error


@contextmanager
def _beating(beat: Callable[[], None]) -> Iterator[None]:
    """Call a function at intervals in a thread; after a failure, the next beat tries again."""
    heart = PeriodicThread("heart", beat, interval_s=BEAT_S, on_failure=_no_heartbeat, stop_within_s=BEAT_S)
    heart.start()
    try:
        yield
    finally:
        heart.stop()


def _no_heartbeat(error: Exception) -> None:
    logger.warning("runs.no_heartbeat", problem=str(error))
