"""Follows the registry's pointer: its model goes live, unless it must not be served."""

import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog

from modelstore.artefact import ArtefactError
from modelstore.registry import Pointer, Registry
from recsvc.local_files.model_cache import ModelCache
from recsvc.model.live_model import LiveModel
from recsvc.rollout.load_policy import LoadPolicy
from recsvc.rollout.report import RolloutReport
from recsvc.rollout.swap import ModelSwap, settle_memory
from recsvc.workers.change_counter import SharedCounter
from servicekit.process.periodic_thread import PeriodicThread
from servicekit.telemetry.metrics import Metrics

logger = structlog.get_logger(__name__)

NEWS_POLL_S: Final = 0.1
"""Seconds in which a model that another process made live is looked for."""


class ModelWatcher:
    """Keeps the live model equal to the one that the registry names.

    A model that is refused leaves the old one serving: one log line, one event and `MODEL_REFUSED`; see `LoadPolicy`
    for when it is tried again. While the store cannot be reached, the live model goes on serving.

    Args:
        registry: Holds the pointer.
        cache: Keeps local copies of models.
        live: Receives the models.
        metrics: Gets every change, and the live model's age.
        interval_s: Seconds between two looks at the pointer.
        now: The time (UTC).
        on_live: Called when a model went live.
        news: Counts the models that went live in any process of this machine; None to look at intervals only.
    """

    def __init__(
        self,
        registry: Registry,
        cache: ModelCache,
        live: LiveModel,
        metrics: Metrics,
        *,
        interval_s: float,
        now: Callable[[], datetime],
        on_live: Callable[[], None],
        news: SharedCounter | None = None,
    ) -> None:
        self._registry = registry
        self._cache = cache
        self._live = live
        self._swap = ModelSwap(cache, live)
        self._policy = LoadPolicy()
        self._report = RolloutReport(metrics, now=now)
        self._interval_s = interval_s
        self._on_live = on_live
        self._news = news
        self._known_news = news.get() if news else 0
        self._due = 0.0
        self._looking = threading.Lock()
        step, pace_s = (self._poll_if_due, min(interval_s, NEWS_POLL_S)) if news else (self.poll, interval_s)
        # A load that takes long is left to end with the process.
        self._thread = PeriodicThread("model-watcher", step, interval_s=pace_s, stop_within_s=interval_s)

    def start(self) -> None:
        """Load the first model, if there is one, then watch in a thread.

        When the pointer's model is refused or the store cannot be reached, the model that was live last on this
        machine serves. ArtefactError when a model is refused and there is no such other.
        """
        refusal = self.poll()
        if self._live.peek() is None:
            self._resume()
        if self._live.peek() is None and refusal:
            raise refusal
        self._thread.start()

    def stop(self) -> None:
        """Stop watching the pointer."""
        self._thread.stop()

    def look(self, *, again: bool = True) -> bool:
        """Check the pointer, make its model live, and return whether another model went live.

        ArtefactError when the model is refused; the store's own error when it cannot be reached.

        Args:
            again: Tries also a model that was refused before.
        """
        with self._looking:
            pointer = self._current()
            if pointer is None or not self._policy.wants(pointer, again=again):
                return False
            self._admit(pointer)
            return True

    def poll(self) -> ArtefactError | None:
        """Check the pointer, handle every error, and return the refusal if a model was refused."""
        refusal, trouble = None, ""
        try:
            self.look(again=False)
        except ArtefactError as error:
            refusal = error
        except Exception as error:  # noqa: BLE001  # whatever a store raises, the live model goes on serving
            trouble = f"{type(error).__name__}: {error}"
        self._report.looked(trouble, self._live.peek())
        self._due = time.monotonic() + self._interval_s
        return refusal

    def _poll_if_due(self) -> None:
        """Poll when the interval is over, or when another process has made a model live."""
        news = self._news.get() if self._news else 0
        if news != self._known_news or time.monotonic() >= self._due:
            self._known_news = news
            self.poll()

    def _current(self) -> Pointer | None:
        try:
            current = self._registry.current()
        except ArtefactError as error:
            self._report.refused("pointer", error)
            raise
        return current[0] if current else None

    def _resume(self) -> None:
        """Make the model live that was live last on this machine."""
        last = self._cache.last()
        if last is None:
            return
        try:
            self._admit(last)
        except (ArtefactError, OSError) as error:
            logger.warning("model.resume_failed", version=last.version, problem=str(error))

    def _admit(self, pointer: Pointer) -> None:
        """Make a pointer's model live, and notify all listeners; ArtefactError when it must not be served."""
        try:
            serving = self._swap.make_live(pointer)
        except ArtefactError as error:
            self._policy.refused(pointer, error)
            self._report.refused(pointer.version, error)
            raise
        before = self._policy.loaded(pointer)
        self._on_live()
        if self._news:
            self._news.advance()
            self._known_news = self._news.get()
        self._report.went_live(serving)
        settle_memory()
        self._cache.remember(pointer, before)
