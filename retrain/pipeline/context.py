"""What a run works with: its settings, its input, and where things go."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from modelstore.registry import Registry
from retrain.data.exports import Window
from retrain.data.input_files import InputFiles
from retrain.gates.smoke_test import SmokeServer
from retrain.pipeline.progress_bar import Progress
from retrain.pipeline.progress_record import RunProgress
from retrain.publishing.publish import unfenced
from retrain.settings import RetrainSettings
from retrain.training.checkpoint_store import CheckpointStore
from retrain.training.warm_start import COLD, WarmStart


@dataclass(frozen=True, kw_only=True, slots=True)
class RunContext:
    """What a run works with."""

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
    """Raises RunFailure when nothing may be published any more."""
    force: bool = False
    """Publish whatever the gate finds."""
    checkpoints: CheckpointStore | None = None
    """Where the states of training stand; None saves none."""
    start: WarmStart = COLD
    """What to go on from."""
    kept: Path | None = None
    """For fits that are done, until their run is; None keeps none."""
    record: RunProgress = field(default_factory=RunProgress)
