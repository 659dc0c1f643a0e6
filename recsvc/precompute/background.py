"""Precomputes shortlists, in a process of its own, for each model that goes live."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from modelstore.artefact import Model
from recsvc.model.live_model import LiveModel
from recsvc.precompute.shortlists import FOLDER, Precomputed
from recsvc.ranking.exact import ExactRanker
from servicekit.process.periodic_thread import PeriodicThread

POLL_S: Final = 0.5
MIN_VIDEOS: Final = 2_000
"""Below this, a scan costs less than the lists would."""

logger = structlog.get_logger(__name__)


class Precomputation:
    """Starts the process that precomputes, and passes its lists on.

    Args:
        live: Holds the model.
        cache: Folder of local copies of models.
        adopt: Given the lists of the live model, and None when another one is live.
        most: Users to precompute for, 0 for none; each takes half a kilobyte on disk.
    """

    def __init__(self, live: LiveModel, cache: Path, adopt: Callable[[Precomputed | None], None], *, most: int) -> None:
        self._live = live
        self._cache = cache
        self._adopt = adopt
        self._most = most
        self._settled: Model | None = None
        self._wanted: Model | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = PeriodicThread("precomputation", self._look, interval_s=POLL_S, on_failure=_report)

    def start(self) -> None:
        """Start precomputing in the background."""
        if self._most:
            self._thread.start()

    def look_now(self) -> None:
        """Look at once for lists of the live model from an earlier time."""
        self._thread.wake()

    def stop(self) -> None:
        """Stop, and abandon the work under way."""
        self._thread.stop()
        self._give_up()

    def _look(self) -> None:
        serving = self._live.peek()
        if serving is None or serving.model is self._settled:
            return
        model, folder = serving.model, self._cache / serving.manifest.version
        if self._wanted is not model:
            self._give_up()
            self._adopt(None)
            self._wanted = model
        ended = self._child is not None and self._child.poll() is not None
        precomputed = Precomputed.read(folder / FOLDER, model)
        if precomputed:
            self._adopt(precomputed)
            logger.info("precomputation.done", version=serving.manifest.version)
        if precomputed or ended or len(model.videos) < MIN_VIDEOS or not isinstance(serving.ranker, ExactRanker):
            self._settled = model
            self._give_up()
        elif self._child is None:
            command = [sys.executable, "-m", "recsvc.precompute.__main__", str(folder), str(self._most)]
            environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
            self._child = subprocess.Popen(command, env=environment)

    def _give_up(self) -> None:
        if self._child:
            self._child.kill()
            self._child.wait()
            self._child = None


def _report(error: Exception) -> None:
    logger.warning("precomputation.failed", problem=f"{type(error).__name__}: {error}")
