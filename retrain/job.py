"""One run from settings to exit: sets its parts up, reports to people and to Datadog, and cleans up."""

import tempfile
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from recsvc.registry import Registry
from retrain.erasures import local_list
from retrain.exports import choose_window
from retrain.failure import Reason, RunFailure
from retrain.pipeline import Run, run, utc_now
from retrain.progress import choose_progress
from retrain.report import plan, summary
from retrain.reporting import leave_report
from retrain.settings import RetrainSettings
from retrain.smoke import smoke
from retrain.source import fetch
from servicekit.objectstore import open_store
from servicekit.telemetry import Metric, Metrics, connect_metrics


def run_job(settings: RetrainSettings, *, last: date | None, dry_run: bool, again: bool, force: bool) -> None:
    """Run once; any failure after its metric was sent, a RunFailure where it was foreseen.

    Args:
        settings: What the run is started with.
        last: The last day to use; None for the newest complete one.
        dry_run: Stop after the plan.
        again: Train what was trained before.
        force: Publish whatever the gate finds.
    """
    with closing(connect_metrics(settings.dd_agent_host, settings.dd_dogstatsd_port, service="retrain")) as metrics:
        try:
            _run(settings, last=last, dry_run=dry_run, again=again, force=force)
        except RunFailure as failure:
            _count_failure(metrics, failure.reason, dry_run=dry_run)
            raise
        except (OSError, Boto3Error, BotoCoreError, ClientError) as error:
            _count_failure(metrics, Reason.STORE, dry_run=dry_run)
            raise RunFailure(Reason.STORE, str(error)) from error
        except Exception:
            _count_failure(metrics, Reason.INTERNAL, dry_run=dry_run)
            raise
        if not dry_run:
            metrics.count(Metric.RETRAIN_SUCCESS)


def _run(settings: RetrainSettings, *, last: date | None, dry_run: bool, again: bool, force: bool) -> None:
    interactions = open_store(settings.interactions_url)
    catalogue = open_store(settings.catalogue_url) if settings.catalogue_url else None
    key = settings.signing_key()
    models = open_store(settings.model_store_url)
    registry = Registry(models, key.verifier() if key else None)
    begin = utc_now()
    window = choose_window(
        interactions, last=last, length=settings.retrain_window_days, marker_required=settings.marker_required()
    )
    settings.retrain_work_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="retrain-", dir=settings.retrain_work_dir) as scratch:
        folder = Path(scratch)
        source = fetch(window, interactions, catalogue, folder)
        source = replace(source, erased=local_list(interactions, models, folder))
        _say(plan(settings, window, source))
        source.check()
        if dry_run:
            return
        job = Run(
            settings=settings,
            window=window,
            source=source,
            registry=registry,
            folder=folder,
            progress=choose_progress(),
            now=utc_now,
            smoke=smoke,
            force=force,
        )
        try:
            result = run(job, again=again)
        except RunFailure as failure:
            leave_report(job, models, failure, started_at=begin)
            raise
        leave_report(job, models, result, started_at=begin)
        _say(summary(result))


def _say(text: str) -> None:
    print(text, end="\n\n", flush=True)  # noqa: T201  # the program's output


def _count_failure(metrics: Metrics, reason: Reason, *, dry_run: bool) -> None:
    if not dry_run:
        metrics.count(Metric.RETRAIN_FAILURE, tags=[f"reason:{reason}"])
