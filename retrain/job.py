"""One run from settings to exit: sets its parts up, reports to people and to Datadog, and cleans up."""

from contextlib import closing
from dataclasses import replace
from datetime import date, datetime

from recsvc.registry import Registry
from retrain.afterwards import optional
from retrain.attempt import Attempt, Held, store_failures
from retrain.checkpoint_store import CheckpointStore
from retrain.erasures import local_list
from retrain.exports import choose_window
from retrain.failure import RunFailure
from retrain.fits import kept_folder
from retrain.lock import take_lock
from retrain.pipeline import Run, run, utc_now
from retrain.progress import choose_progress
from retrain.prune import prune
from retrain.record import Record
from retrain.report import plan, summary
from retrain.reporting import leave_report
from retrain.run_log import open_runs, tell
from retrain.scratch import scratch_folder
from retrain.settings import RetrainSettings
from retrain.smoke import SmokeServer
from retrain.source import fetch
from retrain.warm_start import Terms, choose
from servicekit.objectstore import ObjectStore, open_store
from servicekit.telemetry import Metric, connect_metrics


def run_job(settings: RetrainSettings, *, last: date | None, dry_run: bool, again: bool, force: bool) -> None:
    """Run once; any failure after its metric was sent, a RunFailure where it was foreseen.

    Args:
        settings: What the run is started with.
        last: The last day to use; None for the newest complete one.
        dry_run: Stop after the plan.
        again: Train what was trained before.
        force: Publish whatever the gate finds.
    """
    record = Record()
    if dry_run:
        with store_failures():
            _run(settings, record, last=last)
        return
    with closing(connect_metrics(settings.dd_agent_host, settings.dd_dogstatsd_port, service="retrain")) as metrics:
        runs = open_runs(settings)
        attempt = Attempt(
            take=lambda: take_lock(settings.conninfo(), settings.retrain_work_dir / "retrain.lock"),
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
    record: Record,
    *,
    last: date | None,
    held: Held | None = None,
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
    start = choose(checkpoints, registry.versions(), Terms.of(settings, window))
    with scratch_folder(settings.retrain_work_dir) as folder:
        source = fetch(window, interactions, catalogue, folder)
        source = replace(source, erased=local_list(interactions, models, folder))
        _say(plan(settings, window, source, start))
        source.check(folder)
        if held is None:
            return
        job = Run(
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


def _finish(job: Run, models: ObjectStore, *, again: bool, started_at: datetime) -> None:
    """Do what was planned, and leave a report whatever comes of it."""
    record = job.record
    try:
        result = run(job, again=again)
    except RunFailure as failure:
        with optional("report.failed", record):
            leave_report(job, models, failure, started_at=started_at)
        raise
    with optional("report.failed", record):
        leave_report(job, models, result, started_at=started_at)
    with optional("summary.failed", record):
        _say(summary(result))
    with optional("prune.failed", record):
        prune(models, keep=job.settings.model_versions_kept, now=utc_now())


def _say(text: str) -> None:
    print(text, end="\n\n", flush=True)  # noqa: T201  # the program's output
