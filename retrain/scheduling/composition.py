"""Builds a run from the settings: the stores, the lock, the log of runs, and the context of the stages."""

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Self

from modelstore.registry import Registry
from retrain.data.erased_users import local_list
from retrain.data.exports import Window, choose_window
from retrain.data.input_files import InputFiles, fetch
from retrain.gates.smoke_test import SmokeServer
from retrain.pipeline.context import RunContext
from retrain.pipeline.fits import kept_folder
from retrain.pipeline.observer import RunFindings, RunObserver
from retrain.pipeline.progress_bar import choose_progress
from retrain.pipeline.stages import utc_now
from retrain.run_log.ended_run import report_ended_run
from retrain.run_log.row import RunFigures
from retrain.run_log.store import open_runs
from retrain.scheduling.lock import run_lock
from retrain.scheduling.tracked_run import RunLease, TrackedRun
from retrain.settings import RetrainSettings
from retrain.training.checkpoint_store import CheckpointStore
from retrain.training.warm_start import Compatibility, WarmStart, choose
from servicekit.storage.object_store import ObjectStore, open_store
from servicekit.telemetry.metrics import Metrics


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStores:
    """The stores that a run reads and publishes to."""

    interactions: ObjectStore
    catalogue: ObjectStore | None
    models: ObjectStore
    registry: Registry
    checkpoints: CheckpointStore

    @classmethod
    def of(cls, settings: RetrainSettings) -> Self:
        """Open the stores that the settings name."""
        interactions = open_store(settings.interactions_url)
        catalogue = open_store(settings.catalogue_url) if settings.catalogue_url else None
        key = settings.signing_key()
        models = open_store(settings.model_store_url)
        return cls(
            interactions=interactions,
            catalogue=catalogue,
            models=models,
            registry=Registry(models, key.verifier() if key else None),
            checkpoints=CheckpointStore(models, key),
        )

    def window(self, settings: RetrainSettings, last: date | None) -> Window:
        """Return the days to train on."""
        return choose_window(
            self.interactions,
            last=last,
            length=settings.retrain_window_days,
            marker_required=settings.marker_required(),
        )

    def start(self, settings: RetrainSettings, window: Window) -> WarmStart:
        """Return the start of training: a checkpoint, or nothing."""
        return choose(self.checkpoints, self.registry.versions(), Compatibility.of(settings, window))

    def source(self, window: Window, folder: Path) -> InputFiles:
        """Fetch the files to train on into a folder."""
        source = fetch(window, self.interactions, self.catalogue, folder)
        return replace(source, erased=local_list(self.interactions, self.models, folder))


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """The plan of a run."""

    settings: RetrainSettings
    window: Window
    start: WarmStart
    source: InputFiles
    folder: Path
    """For scratch files."""

    def context(self, stores: RunStores, held: RunLease, observer: RunObserver, *, force: bool) -> RunContext:
        """Return the context of the stages."""
        return RunContext(
            settings=self.settings,
            window=self.window,
            source=self.source,
            registry=stores.registry,
            folder=self.folder,
            progress=choose_progress(),
            now=utc_now,
            smoke_server=SmokeServer,
            fence=held.check,
            force=force,
            observer=observer,
            checkpoints=stores.checkpoints,
            start=self.start,
            kept=kept_folder(self.settings.retrain_work_dir),
        )


def tracked_run(settings: RetrainSettings, metrics: Metrics, observer: RunObserver) -> TrackedRun:
    """Return the watch over a run."""
    runs = open_runs(settings)
    return TrackedRun(
        take=lambda: run_lock(settings),
        runs=runs,
        figures=lambda: run_figures(observer.findings),
        told=lambda row: report_ended_run(settings, runs, metrics, row),
        now=utc_now,
    )


def run_figures(findings: RunFindings) -> RunFigures:
    """Return the figures of the findings, for the log of runs."""
    return RunFigures(
        input_digest=findings.input_digest,
        interactions=findings.counts.events if findings.counts else None,
        version=findings.version,
        stage_seconds=findings.stage_seconds,
        quality=findings.quality(),
    )
