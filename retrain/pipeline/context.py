"""Defines the context of a run: its settings, its input, and its outputs."""

from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from modelstore.registry import Registry
from retrain.data.duckdb_session import DuckDbSession
from retrain.data.exports import Window
from retrain.data.input_files import InputFiles
from retrain.gates.smoke_test import SmokeServer
from retrain.pipeline.observer import RunObserver
from retrain.pipeline.progress_bar import Progress
from retrain.publishing.publish import unfenced
from retrain.settings import RetrainSettings
from retrain.training.checkpoint_store import CheckpointStore
from retrain.training.warm_start import COLD, WarmStart


@dataclass(frozen=True, kw_only=True, slots=True)
class RunContext:
    """The settings, input and collaborators of a run."""

    settings: RetrainSettings
    window: Window
    source: InputFiles
    registry: Registry
    folder: Path
    """For scratch files."""
    progress: Progress
    now: Callable[[], datetime]
    smoke_server: Callable[[Path], SmokeServer] | None = None
    """Starts, in an empty folder, what serves the written model for a test; None serves none."""
    fence: Callable[[], None] = unfenced
    """Raises RunError when nothing may be published any more."""
    force: bool = False
    """Publish whatever the gate finds."""
    checkpoints: CheckpointStore | None = None
    """Where the states of training stand; None saves none."""
    start: WarmStart = COLD
    """What to go on from."""
    kept: Path | None = None
    """For fits that are done, until their run is; None keeps none."""
    observer: RunObserver = field(default_factory=RunObserver)
    """Notes what the stages return."""

    def open_session(self) -> DuckDbSession:
        """Return a database for the run's data."""
        return DuckDbSession(self.folder, memory=self.settings.retrain_memory, threads=self.settings.retrain_threads)

    def start_smoke_server(self) -> AbstractContextManager[SmokeServer | None]:
        """Start the server of the smoke test ahead of time: a core is idle at times while a run works."""
        return closing(self.smoke_server(self.folder / "smoke")) if self.smoke_server else nullcontext()
