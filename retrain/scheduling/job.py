"""One run from settings to exit: sets its parts up, reports to people and to Datadog, and cleans up."""

from contextlib import closing
from dataclasses import replace
from datetime import date, datetime

from modelstore.registry import Registry
from retrain.data.erased_users import local_list
from retrain.data.exports import choose_window
from retrain.data.input_files import fetch
from retrain.errors import RunError
from retrain.gates.smoke_test import SmokeServer
from retrain.pipeline.best_effort import best_effort
from retrain.pipeline.console_summary import plan, summary
from retrain.pipeline.fits import kept_folder
from retrain.pipeline.progress_bar import choose_progress
from retrain.pipeline.progress_record import RunProgress
from retrain.pipeline.stages import RunContext, run, utc_now
from retrain.pipeline.write_report import leave_report
from retrain.publishing.prune import prune
from retrain.run_log.notify import open_runs, tell
from retrain.scheduling.lock import take_lock
from retrain.scheduling.tracked_run import RunLease, TrackedRun, store_failures
from retrain.scratch import scratch_folder
from retrain.settings import RetrainSettings
from retrain.training.checkpoint_store import CheckpointStore
from retrain.training.warm_start import Compatibility, choose
from servicekit.storage.object_store import ObjectStore, open_store
from servicekit.telemetry.metrics import Metric, connect_metrics


def run_job(settings: RetrainSettings, *, last: date | None, dry_run: bool, again: bool, force: bool) -> None:
    """Run once; any failure after its metric was sent, a RunError where it was foreseen.

    Args:
        settings: What the run is started with.
        last: The last day to use; None for the newest complete one.
        dry_run: Stop after the plan.
        again: Train what was trained before.
        force: Publish whatever the gate finds.
    """
    record = RunProgress()
    if dry_run:
        with store_failures():
            _run(settings, record, last=last)
        return
    with closing(connect_metrics(settings.dd_agent_host, settings.dd_dogstatsd_port, service="retrain")) as metrics:
        runs = open_runs(settings)
        attempt = TrackedRun(
            take=lambda: take_lock(settings.conninfo(), settings.retrain_work_dir / "retrain.scheduling.lock"),
            runs=runs,
            record=record,
            told=lambda row: tell(settings, runs, metrics, row),
            now=utc_now,
        )
        try:
            with attempt.running(last) as held:
                _run(settings, record, last=last, held=held, again=again, force=force)
        finally:
            for step in record.undone:
                metrics.count(Metric.RETRAIN_UNDONE, tags=[f"step:{step}"])


def _run(
    settings: RetrainSettings,
    record: RunProgress,
    *,
    last: date | None,
    held: RunLease | None = None,
    again: bool = False,
    force: bool = False,
) -> None:
    """Run under a lock; without one stop after the plan."""
    interactions = open_store(settings.interactions_url)
    catalogue = open_store(settings.catalogue_url) if settings.catalogue_url else None
    key = settings.signing_key()
    models = open_store(settings.model_store_url)
    registry = Registry(models, key.verifier() if key else None)
    begin = utc_now()
    window = choose_window(
        interactions, last=last, length=settings.retrain_window_days, marker_required=settings.marker_required()
    )
    if held:
        held.dated(window.last)
    checkpoints = CheckpointStore(models, key)
    start = choose(checkpoints, registry.versions(), Compatibility.of(settings, window))
    with scratch_folder(settings.retrain_work_dir) as folder:
        source = fetch(window, interactions, catalogue, folder)
        source = replace(source, erased=local_list(interactions, models, folder))
        _say(plan(settings, window, source, start))
        source.check(folder)
        if held is None:
            return
        job = RunContext(
            settings=settings,
            window=window,
            source=source,
            registry=registry,
            folder=folder,
            progress=choose_progress(),
            now=utc_now,
            smoke_server=SmokeServer,
            fence=held.check,
            force=force,
            record=record,
            checkpoints=checkpoints,
            start=start,
            kept=kept_folder(settings.retrain_work_dir),
        )
        _finish(job, models, again=again, started_at=begin)


def _finish(job: RunContext, models: ObjectStore, *, again: bool, started_at: datetime) -> None:
    """Do what was planned, and leave a report whatever comes of it."""
    record = job.record
    try:
        result = run(job, again=again)
    except RunError as failure:
        with best_effort("report.failed", record):
            leave_report(job, models, failure, started_at=started_at)
        raise
    with best_effort("report.failed", record):
        leave_report(job, models, result, started_at=started_at)
    with best_effort("summary.failed", record):
        _say(summary(result))
    with best_effort("prune.failed", record):
        prune(models, keep=job.settings.model_versions_kept, now=utc_now())


def _say(text: str) -> None:
    print(text, end="\n\n", flush=True)  # noqa: T201  # the program's output
