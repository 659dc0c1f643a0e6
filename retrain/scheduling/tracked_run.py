"""One run as it is watched over: alone by a lock, kept in the log of runs, counted, and told to Snowflake."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from uuid import uuid4

import duckdb
import structlog

from retrain.errors import Reason, RunError
from retrain.pipeline.progress_record import RunProgress
from retrain.run_log.row import RunRow, State
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
    """What a run gets when it is the only one.

    Attributes:
        check: Raises RunError when the lock was lost.
        dated: Is told the last day that is trained on, as soon as it is known.
    """

    check: Callable[[], None]
    dated: Callable[[date], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackedRun:
    """Watches over one run.

    Attributes:
        take: Takes the lock; RunError when it cannot.
        runs: Keeps runs.
        record: What is known of the run.
        told: Is given the run when it has ended: for metrics, and for Snowflake.
        now: The time (UTC).
    """

    take: Callable[[], Lock]
    runs: Runs
    record: RunProgress
    told: Callable[[RunRow], None]
    now: Callable[[], datetime]

    @contextmanager
    def running(self, last: date | None) -> Iterator[RunLease]:
        """Yield when the lock is held; whatever ends the run is kept, and goes on as a RunError where foreseen."""
        begin = self.now()
        row = RunRow(run_id=uuid4(), run_date=last, started_at=begin, heartbeat_at=begin)
        with ExitStack() as until_told, self._told_of(row), store_failures():
            lock = self.take()
            until_told.callback(lock.release)
            orphans = self.runs.end_orphans(begin)
            if orphans:
                logger.warning("runs.orphaned", count=orphans)
            self.runs.save(row)
            with _beating(lambda: self.runs.beat(row.run_id, self.now())):
                yield RunLease(check=lock.check, dated=lambda day: self._date(row, day))

    @contextmanager
    def _told_of(self, row: RunRow) -> Iterator[None]:
        """Keep how it ends, and tell of it."""
        try:
            yield
        except RunError as failure:
            self._end(row, State.REJECTED if failure.is_rejection else State.FAILED, failure.reason, str(failure))
            raise
        except (SystemExit, KeyboardInterrupt):
            self._end(row, State.FAILED, Reason.KILLED, "the process was told to end")
            raise
        except BaseException as error:
            self._end(row, State.FAILED, Reason.INTERNAL, f"{type(error).__name__}: {error}")
            raise
        self._end(row, State.SUCCEEDED)

    def _date(self, row: RunRow, day: date) -> None:
        self.record.run_date = day
        self.runs.save(row.model_copy(update={"run_date": day, "heartbeat_at": self.now()}))

    def _end(self, row: RunRow, state: State, reason: Reason | None = None, message: str | None = None) -> None:
        record, now = self.record, self.now()
        ended = row.model_copy(
            update={
                "run_date": record.run_date or row.run_date,
                "input_digest": record.input_digest,
                "state": state,
                "heartbeat_at": now,
                "ended_at": now,
                "interactions": record.counts.events if record.counts else None,
                "version": record.version,
                "reason": str(reason) if reason else None,
                "message": " ".join(message.split()) if message else None,
                "stage_seconds": {name: round(seconds, 3) for name, seconds in record.stage_seconds.items()},
                "quality": record.quality(),
            }
        )
        try:
            self.runs.save(ended)
        except (RunError, OSError) as failure:
            logger.error("runs.not_kept", problem=str(failure))  # noqa: TRY400  # one line says it
        try:
            self.told(ended)
        except Exception:
            logger.exception("runs.not_told")


@contextmanager
def store_failures() -> Iterator[None]:
    """Turn errors of disks and stores into RunError."""
    try:
        yield
    except ObjectNotFoundError as error:
        raise RunError(Reason.STORE, f"{error} was removed meanwhile; try again") from error
    except (OSError, *DUCKDB) as error:
        raise RunError(Reason.STORE, " ".join(str(error).split())) from error


@contextmanager
def _beating(beat: Callable[[], None]) -> Iterator[None]:
    """Call something at intervals from a thread of its own; what fails is tried again at the next beat."""
    heart = PeriodicThread("heart", beat, interval_s=BEAT_S, on_failure=_no_heartbeat, stop_within_s=BEAT_S)
    heart.start()
    try:
        yield
    finally:
        heart.stop()


def _no_heartbeat(error: Exception) -> None:
    logger.warning("runs.no_heartbeat", problem=str(error))
