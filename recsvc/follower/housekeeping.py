"""Keeps the store within its bounds, small and sound, in a thread beside the reading."""

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from recsvc.follower.topics.live_data import LiveData
from recsvc.live_state.compaction import compact, is_due
from recsvc.live_state.environment import PROFILES
from recsvc.live_state.limits import keep_within
from recsvc.live_state.pending import Pending
from recsvc.live_state.preparation import examine
from recsvc.live_state.store import LiveStore
from servicekit.process.periodic_thread import PeriodicThread
from servicekit.telemetry.metrics import Metric, Metrics

LOOK_S: Final = 1.0
BOUNDS_EVERY_S: Final = 10.0
COMPACTION_EVERY_S: Final = 5.0
KEPT_MS: Final = 24 * 3_600_000
"""What happened as lately stays, also where the live model's data reach further: another model may follow, and an older
one may be taken back."""
REST: Final = 10.0
"""Times what a compaction took that the next one waits: where users are erased all the time, many share one."""
PAUSE_S: Final = 0.002
"""Seconds between two steps of a compaction."""

logger = structlog.get_logger(__name__)


class Housekeeping:
    """Does each second the maintenance of the store that is due.

    Args:
        store: Kept.
        pending: What waits for Kafka.
        live: Knows up to when all is in the model.
        metrics: Told of sizes, and of what had to go.
        exchanging: Held by whoever may let another environment take the store's place.
        now_ms: Milliseconds since 1970 UTC.
        clock: Seconds, ascending.
    """

    def __init__(
        self,
        store: LiveStore,
        pending: Pending,
        live: LiveData,
        metrics: Metrics,
        exchanging: threading.Lock,
        *,
        now_ms: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._pending = pending
        self._live = live
        self._metrics = metrics
        self._exchanging = exchanging
        self._now_ms = now_ms
        self._clock = clock
        self._bounds_due = self._compaction_due = 0.0
        self._thread = PeriodicThread("live-housekeeping", self.look, interval_s=LOOK_S, on_failure=_report)

    def start(self) -> None:
        """Start the thread of maintenance."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread of maintenance."""
        self._thread.stop()

    def look(self) -> None:
        """Do the maintenance that is due; StoreError where the store cannot be written now."""
        if self._store.damage.is_reported:
            self._examine()
        if self._clock() >= self._bounds_due:
            self._bounds_due = self._clock() + BOUNDS_EVERY_S
            self._keep_bounds()
        if self._clock() >= self._compaction_due:
            self._compaction_due = self._clock() + COMPACTION_EVERY_S
            if is_due(self._store, now_ms=self._now_ms()):
                self._compact()

    def _examine(self) -> None:
        with self._exchanging:
            is_damaged = examine(self._store)
        if is_damaged:
            self._metrics.count(Metric.LIVE_STATE_DAMAGED)

    def _keep_bounds(self) -> None:
        self._store.clear_dead_readers()
        self._pending.clear_dead_readers()
        cut_off_ms = self._live.cut_off_ms or 0
        dropped = keep_within(self._store, since_ms=min(cut_off_ms, self._now_ms() - KEPT_MS))
        if dropped.users:
            self._metrics.count(Metric.LIVE_STATE_DROPPED, dropped.users)
            logger.warning("live.users_dropped_for_room", users=dropped.users)
        environment = self._store.environment()
        if environment is not None:
            self._metrics.gauge(Metric.LIVE_STATE_BYTES, environment.used_bytes())
            self._metrics.gauge(Metric.LIVE_STATE_USERS, environment.count(PROFILES))

    def _compact(self) -> None:
        began = self._clock()
        with self._exchanging:
            done = compact(self._store, pause=lambda: self._thread.pause(PAUSE_S))
        self._compaction_due = self._clock() + REST * (self._clock() - began)
        logger.info("live.compacted", bytes_before=done.bytes_before, bytes_after=done.bytes_after)


def _report(error: Exception) -> None:
    if isinstance(error, OSError):
        logger.warning("live.not_kept", problem=str(error))
    else:
        logger.error("live.housekeeping_defect", exc_info=error)
