"""The follower's parts put together: one follower works in a folder, on a sound store, which it closes cleanly."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import lmdb
import structlog

from modelstore.erased_users import ErasedUsers
from modelstore.registry import Registry
from recsvc.domain.interaction import Interaction
from recsvc.follower.erasures import Erasures
from recsvc.follower.housekeeping import Housekeeping
from recsvc.follower.relay import Relay
from recsvc.follower.snapshot_keeping import SnapshotKeeping
from recsvc.follower.topics.live_data import LiveData
from recsvc.follower.topics.message import UPDATES
from recsvc.follower.topics.reading import Reading
from recsvc.follower.watch import LIST_S, Watch
from recsvc.live_state.former_file import NAME as FORMER_FILE
from recsvc.live_state.former_file import take_in
from recsvc.live_state.pending import Pending
from recsvc.live_state.preparation import FOLLOWER_LOCK, close_cleanly, prepare
from recsvc.live_state.store import MAX_BYTES, LiveStore
from recsvc.local_files.folders import LIVE_STATE
from recsvc.local_files.model_cache import ModelCache
from recsvc.profile_updates.message import update_message
from servicekit.files.lock import FileLock
from servicekit.files.replacement import PRIVATE
from servicekit.storage.object_store import ObjectStore
from servicekit.telemetry.metrics import Metrics

TURN_POLL_S: Final = 0.2
RETRY_S: Final = 2.0

logger = structlog.get_logger(__name__)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Follower:
    """Copies messages from Kafka to the store of a folder; without Kafka it only maintains the store.

    Args:
        models: Where models are published, and who asked to be forgotten.
        cache: Folder of local copies of models, in which the store is.
        metrics: Told of the state.
        session: Names the run of recsvc, whose workers have the store mapped.
        kafka: How to reach the brokers, in librdkafka's properties; None to do without.
        max_bytes: Size that the store is kept below.
        list_s: Seconds between two looks for new topics and partitions.
        now_ms: Milliseconds since 1970 UTC.
    """

    def __init__(
        self,
        models: ObjectStore,
        cache: Path,
        metrics: Metrics,
        *,
        session: str,
        kafka: Mapping[str, Any] | None = None,
        max_bytes: int = MAX_BYTES,
        list_s: float = LIST_S,
        now_ms: Callable[[], int] = _now_ms,
    ) -> None:
        self._session = session
        self.store = LiveStore(cache / LIVE_STATE, max_bytes=max_bytes, is_synced=kafka is None)
        self._former = cache / FORMER_FILE
        registry, self._pending = Registry(models), Pending(self.store.folder)
        live, exchanging = LiveData(ModelCache(registry, cache)), threading.Lock()
        self._erasures = Erasures(self.store, ErasedUsers(models), now_ms=now_ms)
        self._housekeeping = Housekeeping(self.store, self._pending, live, metrics, exchanging, now_ms=now_ms)
        self.reading: Reading | None = None
        self._relay: Relay | None = None
        self._snapshots: SnapshotKeeping | None = None
        if kafka:
            self._snapshots = SnapshotKeeping(
                models, registry, self.store, self._erasures, self._is_following, now_ms=now_ms
            )
            restore = self._snapshots.restore
            self.reading = Reading(kafka, self.store, live, metrics, exchanging, now_ms=now_ms, restore=restore)
            self._relay = Relay(self._pending, kafka, metrics)
        self._watch = Watch(self.store.folder, live, self.reading, kafka or {}, metrics, now_ms=now_ms, list_s=list_s)

    def _is_following(self) -> bool:
        return self._watch.is_following()

    def renew(self, kafka: Mapping[str, Any]) -> None:
        """Reach the brokers in this way from now on."""
        for part in (self.reading, self._watch, self._relay):
            if part:
                part.renew(kafka)

    def run(self, stopping: threading.Event) -> None:
        """Follow until told to stop; where another follower is at work in the folder, wait for its end before."""
        lock = self._turn(stopping)
        if lock is None:
            return
        with lock:
            self._watch.start()
            if self._prepare(stopping):
                self._follow(stopping)
            self._watch.stop()

    def _turn(self, stopping: threading.Event) -> FileLock | None:
        """Return the lock on the folder, None when told to stop before."""
        is_told = False
        while not stopping.is_set():
            try:
                return FileLock(self.store.folder / FOLLOWER_LOCK, mode=PRIVATE)
            except BlockingIOError:
                if not is_told:
                    logger.info("follower.waits_for_another")
                is_told = True
                stopping.wait(TURN_POLL_S)
            except OSError as error:
                logger.warning("follower.not_prepared", problem=str(error))
                stopping.wait(RETRY_S)
        return None

    def _prepare(self, stopping: threading.Event) -> bool:
        """Make a sound environment current; return False when told to stop before there is one."""
        while not stopping.is_set():
            try:
                goes_on = prepare(self.store, session=self._session)
                take_in(self._former, self.store, relay=self._tell_all if self.reading else None)
            except (OSError, lmdb.Error) as error:  # a full disk, for now
                logger.warning("follower.not_prepared", problem=str(error))
                stopping.wait(RETRY_S)
            else:
                logger.info("follower.prepared", goes_on=goes_on)
                return True
        return False

    def _tell_all(self, user_id: str, done: Sequence[Interaction], told_ms: int) -> None:
        """Keep an update that only this machine knows on disk, for the relay to send to Kafka."""
        key, value, headers = update_message(user_id, done, told_ms=told_ms)
        self._pending.add(UPDATES, key, value, headers)

    def _parts(self) -> "tuple[Reading | Relay | Erasures | SnapshotKeeping | Housekeeping | None, ...]":
        return self.reading, self._relay, self._erasures, self._snapshots, self._housekeeping

    def _follow(self, stopping: threading.Event) -> None:
        parts = [part for part in self._parts() if part]
        for part in parts:
            part.start()
        stopping.wait()
        for part in parts:
            part.stop()
        try:
            close_cleanly(self.store, session=self._session)
        except OSError as error:
            logger.warning("follower.not_left_clean", problem=str(error))
        else:
            logger.info("follower.left_clean")
