"""Runs once, from settings to exit: under a lock, with a report to people and to Datadog, and a clean-up."""

from contextlib import closing
from datetime import date, datetime

from retrain.errors import RunError
from retrain.pipeline.best_effort import best_effort
from retrain.pipeline.console_summary import plan, summary
from retrain.pipeline.context import RunContext
from retrain.pipeline.observer import RunObserver
from retrain.pipeline.stages import run, utc_now
from retrain.pipeline.write_report import leave_report
from retrain.publishing.prune import prune
from retrain.scheduling.composition import RunPlan, RunStores, tracked_run
from retrain.scheduling.tracked_run import RunLease, store_failures
from retrain.scratch import scratch_folder
from retrain.settings import RetrainSettings
from servicekit.storage.object_store import ObjectStore
from servicekit.telemetry.metrics import Metric, connect_metrics


def run_once(settings: RetrainSettings, *, last: date | None, dry_run: bool, again: bool, force: bool) -> None:
    """Run once; raise any failure after sending its metric, as a RunError if it was foreseen.

    Args:
        settings: What the run is started with.
        last: The last day to use; None for the newest complete one.
        dry_run: Stop after the plan.
        again: Train what was trained before.
        force: Publish whatever the gate finds.
    """
    observer = RunObserver()
    if dry_run:
        with store_failures():
            _run(settings, observer, last=last)
        return
    with closing(connect_metrics(settings.dd_agent_host, settings.dd_dogstatsd_port, service="retrain")) as metrics:
        tracked = tracked_run(settings, metrics, observer)
        try:
            with tracked.running(last) as held:
                _run(settings, observer, last=last, held=held, again=again, force=force)
        finally:
            for step in observer.findings.undone:
                metrics.count(Metric.RETRAIN_UNDONE, tags=[f"step:{step}"])


def _run(
    settings: RetrainSettings,
    observer: RunObserver,
    *,
    last: date | None,
    held: RunLease | None = None,
    again: bool = False,
    force: bool = False,
) -> None:
    """Run under a lock; without one stop after the plan."""
    stores = RunStores.of(settings)
    begin = utc_now()
    window = stores.window(settings, last)
    if held:
        held.dated(window.last)
    start = stores.start(settings, window)
    with scratch_folder(settings.retrain_work_dir) as folder:
        source = stores.source(window, folder)
        _say(plan(settings, window, source, start))
        source.check(folder)
        if held is None:
            return
        planned = RunPlan(settings=settings, window=window, start=start, source=source, folder=folder)
        context = planned.context(stores, held, observer, force=force)
        _finish(context, stores.models, again=again, started_at=begin)


def _finish(context: RunContext, models: ObjectStore, *, again: bool, started_at: datetime) -> None:
    """Do the planned work, and write a report whatever its outcome."""
    observer = context.observer
    try:
        result = run(context, again=again)
    except RunError as failure:
        with best_effort("report.failed", observer):
            leave_report(context, observer.findings, models, failure, started_at=started_at)
        raise
    with best_effort("report.failed", observer):
        leave_report(context, observer.findings, models, result, started_at=started_at)
    with best_effort("summary.failed", observer):
        _say(summary(result))
    with best_effort("prune.failed", observer):
        prune(models, keep=context.settings.model_versions_kept, now=utc_now())


def _say(text: str) -> None:
    print(text, end="\n\n", flush=True)  # noqa: T201  # the program's output
