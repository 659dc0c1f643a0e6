"""Finds due days in the stores that the settings name, and reports runs that hang."""

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

import structlog

from modelstore.artefact import ArtefactError
from modelstore.registry import Registry
from retrain.data.exports import list_days
from retrain.errors import Reason, RunError
from retrain.run_log.ended_run import report_ended_run
from retrain.run_log.row import RunRow, State
from retrain.run_log.store import Runs, open_runs
from retrain.scheduling.lock import Lock, run_lock
from retrain.scheduling.schedule import Schedule, due_days
from retrain.scheduling.subprocess_run import ChildRun
from retrain.scheduling.tracked_run import store_failures
from retrain.settings import RetrainSettings
from servicekit.storage.object_store import ObjectNotFoundError, open_store
from servicekit.telemetry.metrics import Metrics

logger = structlog.get_logger("retrain")

LOOKED_AT = 500
"""Runs that tell which days are settled."""
FREED_S: Final = 10.0
"""In which the lock of a run that was killed becomes free."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Nightly:
    """Finds due days, and reports runs that hang.

    Attributes:
        settings: What runs are started with.
        metrics: Where they are counted.
        runs: Keeps runs.
    """

    settings: RetrainSettings
    metrics: Metrics
    runs: Runs

    @classmethod
    def of(cls, settings: RetrainSettings, metrics: Metrics) -> "Nightly":
        """Return the schedule's source with the log of runs that the settings name."""
        return cls(settings=settings, metrics=metrics, runs=open_runs(settings))

    def schedule(self, stopping: threading.Event) -> Schedule:
        """Return the schedule, whose runs are processes of their own."""
        return Schedule(
            due=self.due,
            run=ChildRun(limit_s=self.settings.schedule_limit_s, stopping=stopping, hung=self.report_hung),
            wait=stopping.wait,
            now=_now,
            retry_s=self.settings.schedule_retry_s,
        )

    def due(self) -> list[date]:
        """Return the days that should be trained on now, oldest first."""
        marker_required = self.settings.marker_required()
        exports = list_days(open_store(self.settings.interactions_url))
        return due_days(
            [one.day for one in exports if one.keys and (one.marked or not marker_required)],
            self.runs.recent(LOOKED_AT),
            now=_now(),
            live_until=self._live_until(),
            catch_up_days=self.settings.schedule_catch_up_days,
        )

    def report_hung(self, day: date) -> None:
        """Record and report a run that was killed; a failure to record does not stop the report."""
        now = _now()
        message = f"ended after {self.settings.schedule_limit_s:.0f} s"
        rows = [RunRow.begun(day, now)]
        try:
            with ExitStack() as until_kept, store_failures():
                until_kept.callback(self._lock().release)
                rows = [row for row in self.runs.recent(LOOKED_AT) if row.state is State.RUNNING] or rows
                for row in rows:
                    self.runs.save(row.ended_by_others(now, Reason.HUNG, message))
        except RunError as failure:
            logger.error("schedule.not_reported", problem=str(failure))  # noqa: TRY400  # one line says it
        for row in rows:
            report_ended_run(self.settings, self.runs, self.metrics, row.ended_by_others(now, Reason.HUNG, message))

    def _lock(self) -> Lock:
        """Return the lock: Postgres may take a moment to see that its holder is dead."""
        deadline = time.monotonic() + FREED_S
        while True:
            try:
                return run_lock(self.settings)
            except RunError as failure:
                if failure.reason is not Reason.BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def _live_until(self) -> datetime | None:
        registry = Registry(open_store(self.settings.model_store_url))
        try:
            current = registry.current()
            return registry.manifest(current[0].version).data_until if current else None
        except (ArtefactError, ObjectNotFoundError):
            return None  # what is live cannot be served: the newest day is wanted most
