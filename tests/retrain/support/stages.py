"""Runs in the test's own process."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from modelstore.registry import Registry
from retrain.data.exports import choose_window
from retrain.data.input_files import fetch
from retrain.pipeline.progress_bar import Lines
from retrain.pipeline.stages import RunContext
from retrain.settings import RetrainSettings
from servicekit.storage.object_store import open_store

NOW = datetime(2026, 3, 5, 2, 0, tzinfo=UTC)


def quick_settings(feed: Path, folder: Path, **fields: Any) -> RetrainSettings:
    """Return settings for a quick run on the simulated feed, with its store in a folder; arguments replace fields."""
    defaults: dict[str, Any] = {
        "interactions_url": (feed / "exports").as_uri(),
        "catalogue_url": feed.as_uri(),
        "model_store_url": (folder / "models").as_uri(),
        "retrain_work_dir": folder / "work",
        "retrain_factors": 16,
        "retrain_epochs": 8,
        "retrain_threads": 1,
    }
    return RetrainSettings(**(defaults | fields))


def job(settings: RetrainSettings, folder: Path, *, last: date | None = None, force: bool = False) -> RunContext:
    interactions = open_store(settings.interactions_url)
    window = choose_window(interactions, last=last, length=settings.retrain_window_days, marker_required=False)
    folder.mkdir(parents=True)
    catalogue = open_store(settings.catalogue_url) if settings.catalogue_url else None
    return RunContext(
        settings=settings,
        window=window,
        source=fetch(window, interactions, catalogue, folder),
        registry=Registry(open_store(settings.model_store_url)),
        folder=folder,
        progress=Lines(),
        now=lambda: NOW,
        force=force,
    )
