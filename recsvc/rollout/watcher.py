"""Follows the registry's pointer: what it names goes live, unless it must not be served."""

import gc
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from modelstore.artefact import ArtefactError, Model, read
from modelstore.registry import Pointer, Registry
from recsvc.local_files.model_cache import ModelCache
from recsvc.model.live_model import LiveModel
from recsvc.model.serving_model import ServingModel
from recsvc.rollout.acceptance_checks import check_model
from recsvc.rollout.prepare_in_subprocess import UNPREPARED, prepare
from recsvc.workers.change_counter import SharedCounter
from servicekit.telemetry.metrics import Metric, Metrics

logger = structlog.get_logger(__name__)

GIL_SWITCH_S: Final = 0.0005
RETRY_S: Final = 60.0
"""Seconds until a model that could not be prepared is tried again."""
NEWS_POLL_S: Final = 0.1
"""Seconds in which a model that another process made live is looked for."""


class ModelWatcher:
    """Keeps the live model the one that the registry names.

    A model that is refused leaves the old one serving: one log line, one event and `MODEL_REFUSED`; it is not tried
    again before the pointer moves, but for one that could not be prepared, which may be this machine's fault. While the
    store cannot be reached, the live model goes on serving.

    Args:
        registry: Holds the pointer.
        cache: Loads and keeps what it names.
        live: Receives the models.
        metrics: Told of every change and of the live model's age.
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
        self._metrics = metrics
        self._interval_s = interval_s
        self._now = now
        self._on_live = on_live
        self._news = news
        self._known_news = news.get() if news else 0
        self._serving: Pointer | None = None
        self._refused: Pointer | None = None
        self._refused_until = 0.0
        self._complaint = ""
        self._trouble = ""
        self._looking = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="model-watcher", daemon=True)

    def begin(self) -> None:
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

    def end(self) -> None:
        """Stop watching; a load that takes long is left to end with the process."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(self._interval_s)

    def look(self, *, again: bool = True) -> bool:
        """Look at the pointer, make live what it names, and return whether another model went live.

        ArtefactError when the model is refused; the store's own error when it cannot be reached.

        Args:
            again: Tries also a model that was refused before.
        """
        with self._looking:
            pointer = self._current()
            if pointer is None or self._is_live(pointer) or (self._is_refused(pointer) and not again):
                return False
            self._admit(pointer)
            return True

    def poll(self) -> ArtefactError | None:
        """Look, survive whatever comes of it, and return the refusal if a model was refused."""
        refusal, trouble = None, ""
        try:
            self.look(again=False)
        except ArtefactError as error:
            refusal = error
        except Exception as error:  # noqa: BLE001  # whatever a store raises, the live model goes on serving
            trouble = f"{type(error).__name__}: {error}"
        self._report(trouble)
        return refusal

    def _run(self) -> None:
        while not self._is_stopped_before_look():
            self.poll()

    def _is_stopped_before_look(self) -> bool:
        """Wait until it is time to look, at once when another process has news; return whether to stop instead."""
        due = time.monotonic() + self._interval_s
        while (left_s := due - time.monotonic()) > 0:
            if self._stop.wait(min(left_s, NEWS_POLL_S) if self._news else left_s):
                return True
            if self._news and self._news.get() != self._known_news:
                self._known_news = self._news.get()
                break
        return self._stop.is_set()

    def _current(self) -> Pointer | None:
        try:
            current = self._registry.current()
        except ArtefactError as error:
            self._refuse("pointer", error)
            raise
        return current[0] if current else None

    def _is_live(self, pointer: Pointer) -> bool:
        return self._serving is not None and self._serving.manifest_sha256 == pointer.manifest_sha256

    def _is_refused(self, pointer: Pointer) -> bool:
        return pointer == self._refused and time.monotonic() < self._refused_until

    def _resume(self) -> None:
        last = self._cache.last()
        if last is None:
            return
        try:
            self._admit(last)
        except (ArtefactError, OSError) as error:
            logger.warning("model.resume_failed", version=last.version, problem=str(error))

    def _admit(self, pointer: Pointer) -> None:
        try:
            serving = self._load(pointer)
        except ArtefactError as error:
            self._refused = pointer
            self._refused_until = time.monotonic() + RETRY_S if error.reason == UNPREPARED else math.inf
            self._refuse(pointer.version, error)
            raise
        self._live.swap(serving)
        before, self._serving = self._serving, pointer
        self._complaint = ""
        self._on_live()
        if self._news:
            self._news.advance()
            self._known_news = self._news.get()
        logger.info("model.live", version=pointer.version, videos=serving.manifest.video_count)
        self._metrics.count(Metric.MODEL_LOADED)
        # What lives on from here on need not be scanned by every collection.
        gc.collect()
        gc.freeze()
        self._cache.remember(pointer, before)

    def _load(self, pointer: Pointer) -> ServingModel:
        """Return a model that may be served; ArtefactError when it must not be."""
        if self._live.peek() is None:
            return check_model(self._cache.load(pointer))
        model = self._cache.load(pointer, _prepared)
        with _short_turns():
            return ServingModel.of(model)

    def _refuse(self, what: str, error: ArtefactError) -> None:
        """Raise the alarm, once for each thing that is wrong."""
        complaint = f"{what}: {error}"
        if complaint == self._complaint:
            return
        self._complaint = complaint
        logger.error("model.refused", version=what, reason=error.reason, problem=str(error))
        self._metrics.count(Metric.MODEL_REFUSED, tags=[f"reason:{error.reason}"])
        self._metrics.event("LightFM model refused", complaint, tags=[f"reason:{error.reason}"])

    def _report(self, trouble: str) -> None:
        """Say what changed about the looks, once, and how old the live model is."""
        if trouble and trouble != self._trouble:
            logger.warning("model.look_failed", problem=trouble)
        elif self._trouble and not trouble:
            logger.info("model.look_recovered")
        self._trouble = trouble
        serving = self._live.peek()
        if serving is not None:
            self._metrics.gauge(Metric.MODEL_AGE, (self._now() - serving.manifest.trained_at).total_seconds())
            self._metrics.gauge(Metric.RETRIEVAL_RECALL, serving.ranker.recall)


def _prepared(folder: Path) -> Model:
    """Return a model that another process has checked and prepared; ArtefactError when it refuses or fails."""
    prepare(folder)
    with _short_turns():
        return read(folder, checked=True)


@contextmanager
def _short_turns() -> Iterator[None]:
    """Let the threads that serve wait for this one a tenth of the usual time at each of their turns."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(GIL_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
