"""Snapshots in the model store: one of the fleet takes each hour's, and a new machine begins with the newest.

Below `live-state/snapshots/<name>/`, parts are written first and `manifest` last: without it there is no snapshot.
"""

import secrets
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import lmdb
import structlog

from recsvc.live_state.batch import Batch
from recsvc.live_state.environment import ABOUT, Environment
from recsvc.live_state.keys import sealed
from recsvc.live_state.store import LiveStore
from recsvc.snapshots.blocks import part_name
from recsvc.snapshots.claim import Claim
from recsvc.snapshots.kept_snapshots import INTERVAL_MS, KEPT, MANIFEST, KeptSnapshots, key_of
from recsvc.snapshots.parts_download import downloaded
from recsvc.snapshots.restoring import Restoring
from recsvc.snapshots.snapshot import Partition, Snapshot, SnapshotError, read_snapshot
from recsvc.snapshots.taking import GROWTH, MAX_READ_S, Taking, digest_of_marks
from servicekit.storage.object_store import ObjectNotFoundError, ObjectStore

RESTORE_S: Final = 120.0
"""Seconds after which reading the topic from where the live model's data ends is tried instead."""
TURN_S: Final = 10.0
"""Seconds to wait for a writer when all is built."""
_WORK: Final = ".snapshot-"

logger = structlog.get_logger(__name__)


class Snapshots:
    """The snapshots of one model store, as one follower sees them.

    Args:
        store: Where models are published.
        now_ms: The time, milliseconds since 1970 UTC.
        monotonic: A clock that never goes back, seconds.
        kept: Snapshots that stay.
        max_read_s: Seconds for which taking one may hold pages of the live state.

    Attributes:
        refused: Snapshots that were not used, by reason.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        monotonic: Callable[[], float] = time.monotonic,
        kept: int = KEPT,
        max_read_s: float = MAX_READ_S,
    ) -> None:
        self._store = store
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._max_read_s = max_read_s
        self._claim = Claim(store, secrets.token_hex(8))
        self._kept = KeptSnapshots(store, kept=kept)
        self.refused: Counter[str] = Counter()

    def take(self, live: LiveStore, *, cluster_id: str) -> Snapshot | None:
        """Take this hour's snapshot; None when there is one, or somebody else is at it.

        Only a follower that has caught up calls this, and in a process of low priority; see `recsvc.snapshots.child`.
        The writers' lock is not taken. Whatever is raised, the store has no half snapshot.

        Args:
            live: The live state.
            cluster_id: Of the Kafka cluster that it follows.

        Raises:
            SnapshotError: There can be none now.
            OSError: The store or the disk fails.
        """
        if not self._is_due() or not self._claim.make(self._now_ms()):
            return None
        try:
            if not self._is_due():  # taken by the one before, between the two looks
                return None
            return self._take(live, cluster_id)
        finally:
            try:
                self._claim.end()
                self.tidy(live)
            except (OSError, SnapshotError) as error:  # what was taken stands; the next one tidies
                logger.warning("live_state.snapshots_not_tidied", problem=str(error))

    def tidy(self, live: LiveStore) -> None:
        """Remove older snapshots, what is left of those that were cut short, and those that may hold erased users.

        `take` does so; a follower that cannot take one calls this once an hour. OSError when the store fails.

        Args:
            live: Knows who was erased.
        """
        environment = live.environment()
        marks_sha256 = None
        if environment:
            with _noticing_damage(live), environment.begin() as transaction:
                marks_sha256 = digest_of_marks(environment, transaction)
        self._kept.tidy(self._now_ms(), marks_sha256)

    def names(self) -> list[str]:
        """Return the names of the snapshots that are kept, oldest first; OSError when the store fails."""
        return self._kept.names()

    def restore(
        self,
        live: LiveStore,
        *,
        cluster_id: str,
        readable: Mapping[Partition, tuple[int, int]],
        marks: Mapping[bytes, int],
        about: Mapping[str, str] | None = None,
        patience_s: float = RESTORE_S,
    ) -> Snapshot | None:
        """Make the newest usable snapshot the current environment; None when there is none, and nothing has changed.

        Usable is what is sound, belongs to this cluster, reaches further than the live state, and can be gone on from.

        Args:
            live: The live state, which nobody else restores or compacts meanwhile.
            cluster_id: Of the Kafka cluster.
            readable: The first and the next offset of each partition of the followed topics, as Kafka has them now.
            marks: Users to be forgotten by fingerprint, and up to when, of the list in the model store.
            about: What `LiveStore.about` is to say of it.
            patience_s: Seconds that it may take.
        """
        end = self._monotonic() + patience_s
        try:
            names = self._kept.names()
        except OSError as error:
            self._refuse("", SnapshotError("store", str(error)))
            return None
        for name in reversed(names):
            try:
                snapshot = read_snapshot(self._store.read(key_of(name, MANIFEST)).data, name)
                _check_use(snapshot, cluster_id, readable, live)
                self._build(live, snapshot, marks, about or {}, end)
            except SnapshotError as error:
                self._refuse(name, error)
            except ObjectNotFoundError as error:
                self._refuse(name, SnapshotError("missing", f"{error} is not in the store"))
            except (OSError, lmdb.Error) as error:
                self._refuse(name, SnapshotError("store", f"{type(error).__name__}: {error}"))
            else:
                logger.info("live_state.restored", snapshot=name, records=snapshot.records)
                return snapshot
        return None

    def _is_due(self) -> bool:
        newest_ms = self._kept.newest_ms(self._now_ms())
        return newest_ms is None or newest_ms // INTERVAL_MS < self._now_ms() // INTERVAL_MS

    def _take(self, live: LiveStore, cluster_id: str) -> Snapshot:
        environment = live.environment()
        if environment is None:
            raise SnapshotError("offsets", "there is no live state")
        with _noticing_damage(live), _work_folder(live.folder) as folder:
            created_at_ms = self._now_ms()
            taken = Taking(
                environment,
                folder,
                max_growth_bytes=live.max_bytes // GROWTH,
                monotonic=self._monotonic,
                max_read_s=self._max_read_s,
            ).run()
            snapshot = Snapshot(
                name=f"{created_at_ms:016d}-{secrets.token_hex(8)}",
                created_at_ms=created_at_ms,
                cluster_id=cluster_id,
                **taken._asdict(),
            )
            for number in range(len(snapshot.parts)):
                part = folder / part_name(number)
                self._store.upload(part, key_of(snapshot.name, part.name))  # nobody else has a snapshot of this name
                part.unlink()
            manifest = folder / MANIFEST
            manifest.write_bytes(snapshot.encode())
            self._store.upload(manifest, key_of(snapshot.name, MANIFEST))
        logger.info("live_state.snapshot_taken", snapshot=snapshot.name, left_out=snapshot.left_out)
        return snapshot

    def _build(
        self, live: LiveStore, snapshot: Snapshot, marks: Mapping[bytes, int], about: Mapping[str, str], end: float
    ) -> None:
        """Build an environment and make it current; nothing is left of one that does not come to its end."""
        if snapshot.raw_bytes > live.max_bytes:
            raise SnapshotError("size", f"it has {snapshot.raw_bytes} bytes, the live state at most {live.max_bytes}")
        name = live.create()
        try:
            environment = live.open(name)
            _describe(environment, about)
            restoring = Restoring(environment, snapshot, marks=marks, now_ms=self._now_ms())
            try:
                with _work_folder(live.folder) as work:
                    parts = downloaded(self._store, snapshot, work, seconds_left=lambda: end - self._monotonic())
                    with closing(parts):
                        for number, path in enumerate(parts):
                            restoring.take(path, number)
                restoring.finish()
            finally:
                restoring.abandon()
            with live.turn(patience_s=TURN_S):
                former = live.current()
                _keep_marks(live, environment)
                live.make_current(name)
        except BaseException:
            if live.current() != name:
                _empty(live.folder / name)
            raise
        if former:
            shutil.rmtree(live.folder / former, ignore_errors=True)  # who reads it has it open

    def _refuse(self, name: str, error: SnapshotError) -> None:
        self.refused[error.reason] += 1
        logger.warning("live_state.snapshot_refused", snapshot=name, reason=error.reason, problem=str(error))


@contextmanager
def _noticing_damage(live: LiveStore) -> Iterator[None]:
    """Report damage that LMDB finds in the live state, for examination; SnapshotError then."""
    try:
        yield
    except lmdb.Error as error:
        live.damage.report()
        raise SnapshotError("damaged", f"the live state cannot be read: {error}") from error


def _describe(environment: Environment, about: Mapping[str, str]) -> None:
    with environment.begin(write=True) as transaction:
        for name, text in about.items():
            transaction.put(name.encode(), sealed(text.encode()), db=environment[ABOUT])


def _keep_marks(live: LiveStore, environment: Environment) -> None:
    """Forget in a new environment the users whom the current one forgot, also after the list of marks was read."""
    with environment.begin(write=True) as transaction:
        batch = Batch(environment, transaction)
        for mark, at_ms, _ in live.marks():
            batch.forget(mark, at_ms)


def _empty(folder: Path) -> None:
    """Remove an environment's files; its folder stays, so that no other one has the same name in this process."""
    for path in folder.iterdir():
        path.unlink(missing_ok=True)


def _check_use(
    snapshot: Snapshot, cluster_id: str, readable: Mapping[Partition, tuple[int, int]], live: LiveStore
) -> None:
    """Return when a snapshot can be gone on from and brings anything; SnapshotError when not."""
    if snapshot.cluster_id != cluster_id:
        raise SnapshotError("cluster", f"it belongs to the Kafka cluster {snapshot.cluster_id}, not to {cluster_id}")
    for (topic, partition), (offset, _) in snapshot.places().items():
        first, after = readable.get((topic, partition), (0, -1))
        if not first <= offset <= after:
            problem = f"{topic}[{partition}] has the offsets {first} to {after}, the snapshot goes on from {offset}"
            raise SnapshotError("retention", problem)
    here = live.progress()
    there = snapshot.places()
    if here and not all(there.get(one, (-1, 0))[0] >= offset for one, (offset, _) in here.items()):
        raise SnapshotError("older", "the live state has read further")
    if here and all(here.get(one, (-1, 0))[0] >= offset for one, (offset, _) in there.items()):
        raise SnapshotError("older", "the live state has read as far")


@contextmanager
def _work_folder(live_folder: Path) -> Iterator[Path]:
    """Yield a folder on the live state's disk, and remove it and those that processes left that died."""
    for former in live_folder.iterdir():
        if former.name.startswith(_WORK):
            shutil.rmtree(former, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_WORK, dir=live_folder, ignore_cleanup_errors=True) as folder:
        yield Path(folder)
