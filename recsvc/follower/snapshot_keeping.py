"""Snapshots in the model store: a new machine begins with the newest, and one of all machines takes one each hour."""

import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from modelstore.erased_users import ErasedUsers
from modelstore.registry import Registry
from recsvc.follower.erasures import Erasures
from recsvc.follower.topics.cluster import Ground
from recsvc.follower.topics.gathering import Place
from recsvc.follower.topics.starts import CLUSTER
from recsvc.live_state.limits import drop_marks
from recsvc.live_state.store import LiveStore
from recsvc.snapshots.child import take_in_subprocess
from recsvc.snapshots.erasure_marks import oldest_needed_ms
from recsvc.snapshots.snapshot import SnapshotError
from recsvc.snapshots.snapshots import Snapshots
from servicekit.process.periodic_thread import PeriodicThread
from servicekit.storage.object_store import ObjectStore

LOOK_S: Final = 120.0
PRUNE_EVERY_S: Final = 6 * 3600.0
TIDY_EVERY_S: Final = 3600.0
RETENTION_MS: Final = 7 * 86_400_000
"""How long the followed topics keep a message."""

logger = structlog.get_logger(__name__)


class SnapshotKeeping:
    """Restores when asked, and takes snapshots in a thread.

    Args:
        models: The model store.
        registry: Its models.
        store: The live state.
        erasures: Told which marks are gone for good.
        is_following: Whether the store follows, so that a snapshot of it is worth something.
        now_ms: Milliseconds since 1970 UTC.
        clock: Seconds, ascending.
    """

    def __init__(
        self,
        models: ObjectStore,
        registry: Registry,
        store: LiveStore,
        erasures: Erasures,
        is_following: Callable[[], bool],
        *,
        now_ms: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models = models
        self._registry = registry
        self._store = store
        self._erasures = erasures
        self._is_following = is_following
        self._now_ms = now_ms
        self._clock = clock
        self._snapshots = Snapshots(models, now_ms=now_ms)
        self._prune_due = clock() + PRUNE_EVERY_S
        self._tidy_due = clock() + TIDY_EVERY_S
        self._thread = PeriodicThread("live-snapshots", self.look, interval_s=LOOK_S, on_failure=_report)

    def start(self) -> None:
        """Take snapshots from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Stop taking snapshots; one that is being taken ends with this process."""
        self._thread.stop()

    def restore(self, ground: Ground, firsts: Mapping[Place, int], ends: Mapping[Place, int]) -> None:
        """Make the newest snapshot that can be gone on from the current environment, where there is one.

        Args:
            ground: What the cluster holds.
            firsts: By partition, the first offset that can be read.
            ends: By partition, the offset after the last message.
        """
        readable = {place: (firsts[place], ends[place]) for place in ground.places}
        try:
            marks = ErasedUsers(self._models).marks() or {}
        except OSError as error:  # erased users would come back
            logger.warning("live.not_restored", problem=str(error))
            return
        self._snapshots.restore(
            self._store,
            cluster_id=ground.cluster_id,
            readable=readable,
            marks=marks,
            about={CLUSTER: ground.cluster_id},
        )

    def look(self) -> None:
        """Have a snapshot taken when one is due, and drop erasure marks that nobody needs any more."""
        cluster_id = self._store.about().get(CLUSTER)
        if cluster_id is None:
            return
        if not self._is_following():
            self._tidy_at_times()
            return
        take_in_subprocess(self._store, store_url=self._models.url, cluster_id=cluster_id)
        if self._clock() >= self._prune_due:
            self._prune_due = self._clock() + PRUNE_EVERY_S
            self._prune()

    def _tidy_at_times(self) -> None:
        """Drop snapshots that may hold erased users, also while nobody takes new ones."""
        if self._clock() >= self._tidy_due:
            self._tidy_due = self._clock() + TIDY_EVERY_S
            self._snapshots.tidy(self._store)

    def _prune(self) -> None:
        before_ms = oldest_needed_ms(
            self._registry, self._snapshots.names(), now_ms=self._now_ms(), retention_ms=RETENTION_MS
        )
        self._erasures.needed_since_ms = before_ms
        dropped = drop_marks(self._store, before_ms=before_ms)
        if dropped:
            logger.info("live.marks_pruned", marks=dropped)


def _report(error: Exception) -> None:
    reason = error.reason if isinstance(error, SnapshotError) else type(error).__name__
    logger.warning("live.no_snapshot", reason=reason, problem=str(error))
