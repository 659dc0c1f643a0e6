"""A watcher of models with all that it needs, and what it told."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from modelstore.registry import POINTER, Registry
from modelstore.signature import Verifier
from recsvc.local_files.model_cache import ModelCache
from recsvc.model.live_model import LiveModel
from recsvc.rollout.watcher import ModelWatcher
from servicekit.storage.object_store import FileStore
from servicekit.telemetry.metrics import Metric, NoMetrics
from tests.recsvc.support.models import TRAINED_AT


class RecordedMetrics(NoMetrics):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.counts: list[tuple[Metric, tuple[str, ...]]] = []
        self.gauges: dict[Metric, float] = {}
        self.events: list[str] = []

    def count(self, metric: Metric, value: int = 1, *, tags: list[str] | None = None) -> None:  # noqa: ARG002
        self.counts.append((metric, tuple(tags or ())))

    def gauge(self, metric: Metric, value: float, *, tags: list[str] | None = None) -> None:  # noqa: ARG002
        self.gauges[metric] = value

    def event(self, title: str, text: str, *, tags: list[str] | None = None) -> None:  # noqa: ARG002
        self.events.append(text)


class UnreachableStore(FileStore):
    """A store whose pointer cannot be read while `down`."""

    down = False

    def read(self, key: str) -> Any:
        if self.down and key == POINTER:
            raise ConnectionError("no route to the store")
        return super().read(key)


class Bench:
    """A watcher with all that it needs, in one folder."""

    def __init__(self, folder: Path, verifier: Verifier | None = None) -> None:
        self.store = folder / "store"
        self.cache = folder / "cache"
        self.objects = UnreachableStore(self.store)
        self.live = LiveModel(retry_after_s=1)
        self.metrics = RecordedMetrics()
        self.went_live: list[str] = []
        registry = Registry(self.objects, verifier)
        self.watcher = ModelWatcher(
            registry,
            ModelCache(registry, self.cache),
            self.live,
            self.metrics,
            interval_s=0.01,
            now=lambda: TRAINED_AT + timedelta(hours=1),
            on_live=lambda: self.went_live.append(self.version),
        )

    @property
    def version(self) -> str:
        serving = self.live.peek()
        return serving.manifest.version if serving else ""

    @property
    def refusals(self) -> list[tuple[str, ...]]:
        return [tags for metric, tags in self.metrics.counts if metric is Metric.MODEL_REFUSED]
