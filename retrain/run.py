"""What a run works with: its settings, its input, and where things go."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from recsvc.registry import Registry
from retrain.checkpoint_store import CheckpointStore
from retrain.exports import Window
from retrain.progress import Progress
from retrain.publish import unfenced
from retrain.record import Record
from retrain.settings import RetrainSettings
from retrain.smoke import SmokeServer
from retrain.source import Source
from retrain.warm_start import COLD, WarmStart


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What a run works with."""

    settings: RetrainSettings
    window: Window
    source: Source
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
    record: Record = field(default_factory=Record)
