"""Lists the snapshots of a store, and removes those that nobody needs."""

from collections import defaultdict
from typing import Final

import structlog

from recsvc.snapshots.claim import CLAIM_MS
from recsvc.snapshots.snapshot import NAME, SnapshotError, read_snapshot
from servicekit.storage.object_store import ObjectNotFoundError, ObjectStore

PREFIX: Final = "live-state/snapshots/"
MANIFEST: Final = "manifest"
INTERVAL_MS: Final = 3_600_000
KEPT: Final = 3
ORPHANED_MS: Final = 4 * CLAIM_MS
"""Parts without a manifest that are older are of a process that died."""
MAX_AHEAD_MS: Final = 10 * 60_000
"""Of a name that is further ahead the clock was wrong: it is not the newest one."""
MAX_WITH_ERASED_MS: Final = INTERVAL_MS
"""A snapshot that may hold a user who was erased since goes at this age."""

logger = structlog.get_logger(__name__)


def key_of(snapshot: str, name: str) -> str:
    """Return the key of an object of a snapshot."""
    return f"{PREFIX}{snapshot}/{name}"


class KeptSnapshots:
    """The snapshots of one store.

    Args:
        store: The model store.
        kept: Snapshots that stay.
    """

    def __init__(self, store: ObjectStore, *, kept: int) -> None:
        self._store = store
        self._most = kept

    def names(self) -> list[str]:
        """Return the names of complete snapshots, oldest first; OSError when the store fails."""
        return sorted(name for name, keys in self._objects().items() if key_of(name, MANIFEST) in keys)

    def newest_ms(self, now_ms: int) -> int | None:
        """Return when the newest snapshot was taken, milliseconds since 1970 UTC; None when there is none."""
        times = [time_of(name) for name in self.names()]
        return max((one for one in times if one <= now_ms + MAX_AHEAD_MS), default=None)

    def tidy(self, now_ms: int, marks_sha256: str | None) -> None:
        """Remove the objects that nobody needs; see `Snapshots.tidy`."""
        objects = self._objects()
        complete = sorted(name for name, keys in objects.items() if key_of(name, MANIFEST) in keys)
        ahead = [name for name in complete if time_of(name) > now_ms + MAX_AHEAD_MS]
        timely = [name for name in complete if name not in ahead]
        for name in (*ahead[: -self._most], *timely[: -self._most]):
            self._remove(name, objects[name], "old")
        for name in timely[-self._most :]:
            if marks_sha256 and self._may_hold_erased(name, now_ms, marks_sha256, is_newest=name == timely[-1]):
                self._remove(name, objects[name], "erasure")
        for name in objects.keys() - {*complete}:
            if abs(now_ms - time_of(name)) > ORPHANED_MS:
                self._remove(name, objects[name], "orphaned")

    def _may_hold_erased(self, name: str, now_ms: int, marks_sha256: str, *, is_newest: bool) -> bool:
        if is_newest and now_ms - time_of(name) < MAX_WITH_ERASED_MS:
            return False
        try:
            snapshot = read_snapshot(self._store.read(key_of(name, MANIFEST)).data, name)
        except (SnapshotError, ObjectNotFoundError):
            return True  # nobody can say whom it holds
        return snapshot.marks_sha256 != marks_sha256

    def _remove(self, name: str, keys: set[str], reason: str) -> None:
        """Remove a snapshot, its manifest first, so that nobody begins to read the rest."""
        for key in sorted(keys, key=lambda key: (key != key_of(name, MANIFEST), key)):
            self._store.delete(key)
        logger.info("live_state.snapshot_removed", snapshot=name, reason=reason)

    def _objects(self) -> dict[str, set[str]]:
        found: defaultdict[str, set[str]] = defaultdict(set)
        for key in self._store.list(PREFIX):
            name = key.removeprefix(PREFIX).partition("/")[0]
            if NAME.fullmatch(name):
                found[name].add(key)
        return dict(found)


def time_of(name: str) -> int:
    """Return when a snapshot was taken, by its name, milliseconds since 1970 UTC."""
    return int(name.partition("-")[0])
