"""Compaction: a copy of the store without free pages and without the bytes of users who were forgotten.

LMDB leaves what was deleted in pages until they are used again. A copy that is written entry by entry has none of it.
Readers and writers go on while it is made, in steps of which each holds pages for milliseconds only; writers note the
keys that they change meanwhile, and these are brought over at the end. Then the copy takes the store's place.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from typing import Final, NamedTuple

import lmdb

from recsvc.live_state.batch import Batch
from recsvc.live_state.environment import (
    ABOUT,
    ACTIVITY,
    COUNTS,
    DATA,
    DATABASES,
    ERASURES,
    HOURS,
    PROFILES,
    PROGRESS,
    TOUCHED,
    Environment,
    open_environment,
)
from recsvc.live_state.keys import (
    COPYING,
    ERASED_SINCE,
    ERASED_SINCE_COPY,
    INTERNAL,
    Packed,
    erasure,
    hour_key,
    read_erasure,
    read_touched,
    read_whole,
    whole,
)
from recsvc.live_state.profile import DamagedError, Profile, without
from recsvc.live_state.store import LiveStore, StoreError
from servicekit.user_fingerprint import user_fingerprint

ERASED_AFTER_MS: Final = 30_000
"""How long the bytes of a user who was forgotten may stay."""
MIN_FREE_BYTES: Final = 64 << 20
"""Free pages that are not worth a compaction."""
STEP: Final = 2000
"""Entries that one transaction copies."""
STEP_BYTES: Final = 4 << 20
MAX_ROUNDS: Final = 100
"""After so many, all changes are brought over while writers wait."""
PATIENCE_S: Final = 10.0
Pause = Callable[[], object]
Row = tuple[bytes, bytes]
Rows = Sequence[Row]


class Compacted(NamedTuple):
    """The results of a compaction: sizes, users without data, and the wait of writers."""

    bytes_before: int
    bytes_after: int
    users_left_out: int
    """Users of whom nothing was left."""
    wait_s: float
    """For how long writers waited for the exchange."""


def is_due(store: LiveStore, *, now_ms: int) -> bool:
    """Return whether somebody was forgotten half a minute ago, most pages are free, or somebody removed the file.

    This process has a removed file open still: a copy saves what is in it.
    """
    environment = store.environment()
    if environment is None:
        return False
    if not environment.is_there:
        return True
    since = environment.value(ABOUT, ERASED_SINCE)
    if since is not None and not 0 <= now_ms - read_whole(since) < ERASED_AFTER_MS:  # the clock may be set back
        return True
    free = environment.file_bytes() - environment.used_bytes()
    return free > MIN_FREE_BYTES and free > environment.file_bytes() // 2


def compact(store: LiveStore, *, pause: Pause = lambda: None) -> Compacted:
    """Put a compacted copy in the place of the current environment; StoreError when that cannot be done now.

    However it ends, one whole store is current. The caller holds the follower's lock.

    Args:
        store: The store.
        pause: Called between steps; what it raises ends the compaction, and nothing has changed.
    """
    before = store.environment()
    if before is None:
        raise StoreError("the live state is not there yet")
    former, name = store.current(), ""
    bytes_before = before.file_bytes() if before.is_there else 0
    try:
        _begin(store, before)
        name = store.create()
        copy = _Copy(store, before, name, pause)
        wait_s = copy.make()
    except (lmdb.Error, DamagedError) as error:
        _abandon(store, name)
        if isinstance(error, DamagedError | lmdb.CorruptedError | lmdb.PageNotFoundError):
            store.damage.report()
        raise StoreError(f"the live state cannot be compacted: {error}") from error
    except BaseException:
        _abandon(store, name)
        raise
    bytes_after = (store.folder / name / DATA).stat().st_size
    shutil.rmtree(store.folder / former, ignore_errors=True)
    return Compacted(bytes_before, bytes_after, len(copy.gone), wait_s)


def give_up(store: LiveStore) -> None:
    """Clean up after a compaction that did not end: writers no longer note the keys that they change."""
    environment = store.environment()
    if environment is None or environment.value(ABOUT, COPYING) is None:
        return
    with store.turn(patience_s=PATIENCE_S), environment.begin(write=True) as transaction:
        about = environment[ABOUT]
        later = transaction.pop(ERASED_SINCE_COPY, db=about)
        if later is not None and transaction.get(ERASED_SINCE, db=about) is None:
            transaction.put(ERASED_SINCE, later, db=about)
        transaction.delete(COPYING, db=about)
        transaction.drop(environment[TOUCHED], delete=False)


def _begin(store: LiveStore, environment: Environment) -> None:
    """Make all writers note the keys that they change from now on."""
    give_up(store)
    with store.turn(patience_s=PATIENCE_S), environment.begin(write=True) as transaction:
        transaction.put(COPYING, whole(1), db=environment[ABOUT])


def _abandon(store: LiveStore, name: str) -> None:
    if name and name != store.current():
        shutil.rmtree(store.folder / name, ignore_errors=True)
    give_up(store)


class _Copy:
    """Copies one environment into another one."""

    def __init__(self, store: LiveStore, before: Environment, name: str, pause: Pause) -> None:
        self._store = store
        self._before = before
        self._name = name
        self._pause = pause
        self._unapplied: dict[bytes, int] = {}
        self.gone: set[bytes] = set()
        # Not synced, as nobody needs a half copy. It is opened anew when it becomes current.
        folder = store.folder / name
        self._after: Environment | None = open_environment(folder, max_bytes=store.max_bytes, is_synced=False)

    def make(self) -> float:
        """Copy, make the copy current, and return for how many seconds writers waited."""
        after = self._after
        assert after  # noqa: S101  # until here
        for _ in self._walk(after):
            self._pause()
        for _ in range(MAX_ROUNDS):
            keys = self._touched(STEP)
            if len(keys) < STEP:
                break
            self._bring(after, keys)
            self._pause()
        self._bring(after, keys)
        _sync(after)
        with self._store.turn(patience_s=PATIENCE_S):
            begin = time.monotonic()
            while keys := self._touched(STEP, has_turn=True):
                self._bring(after, keys)
            self._bring_rest(after)
            _sync(after)
            del after
            self._after = None
            self._store.make_current(self._name)
            return time.monotonic() - begin

    def _walk(self, after: Environment) -> Iterator[None]:
        """Copy all entries, in steps."""
        yield from self._copied(after, ERASURES, self._marks)
        yield from self._copied(after, PROFILES, self._profiles)
        yield from self._copied(after, ACTIVITY, self._activity)
        yield from self._copied(after, COUNTS, iter)
        yield from self._copied(after, HOURS, iter)

    def _copied(self, after: Environment, database: str, change: Callable[[Rows], Iterator[Row]]) -> Iterator[None]:
        start, is_last = b"", False
        while not is_last:  # what comes behind the last step was noted
            with (
                self._before.begin(db=self._before[database]) as transaction,
                transaction.cursor() as cursor,
            ):
                rows, is_last = _some(iter(cursor)) if cursor.set_range(start) else ([], True)
            with after.begin(db=after[database], write=True) as transaction, transaction.cursor() as cursor:
                cursor.putmulti(change(rows), append=True)
            yield
            start = rows[-1][0] + b"\0" if rows else start

    def _marks(self, rows: Rows) -> Iterator[Row]:
        """Yield the marks as they are when the profiles have been copied, and note whose profiles are to be trimmed."""
        for mark, value in rows:
            at_ms, is_applied = read_erasure(value)
            if not is_applied:
                self._unapplied[mark] = at_ms
            yield mark, erasure(at_ms, is_applied=True)

    def _profiles(self, rows: Rows) -> Iterator[Row]:
        if not self._unapplied:
            yield from rows
            return
        for user, packed in rows:
            at_ms = self._unapplied.get(user_fingerprint(user.decode()))
            profile = Profile(packed) if at_ms is None else without(Profile(packed), at_ms)
            if profile:
                yield user, profile.packed
            else:
                self.gone.add(user)

    def _activity(self, rows: Rows) -> Iterator[Row]:
        """Yield all but those of users who are gone; of the others, the newest interaction is what it was."""
        if not self.gone:
            return iter(rows)
        return (row for row in rows if row[0][len(hour_key(0)) :] not in self.gone)

    def _touched(self, most: int, *, has_turn: bool = False) -> list[bytes]:
        """Return keys that changed, and take them off the list: who changes one again notes it again."""
        with nullcontext() if has_turn else self._store.turn(patience_s=PATIENCE_S):  # noqa: SIM117
            with self._before.begin(db=self._before[TOUCHED], write=True) as transaction:
                with transaction.cursor() as cursor:
                    keys = [key for key, _ in islice(cursor, most)]
                for key in keys:
                    transaction.delete(key)
                return keys

    def _bring(self, after: Environment, keys: Sequence[bytes]) -> None:
        """Copy the present values of these keys."""
        with self._before.begin() as source, after.begin(write=True) as target:
            batch = Batch(after, target)
            has_marks = source.stat(self._before[ERASURES])["entries"] > 0
            for touched in keys:
                number, key = read_touched(touched)
                name = DATABASES[number]
                value = source.get(key, db=self._before[name])
                if name == PROFILES:
                    batch.replace(key, self._profile(source, key, value, has_marks=has_marks))
                elif value is None:
                    target.delete(key, db=after[name])
                elif name in (COUNTS, HOURS, ERASURES):
                    target.put(key, value, db=after[name])

    def _profile(
        self, source: lmdb.Transaction, user: bytes, packed: Packed | None, *, has_marks: bool
    ) -> Profile | None:
        if packed is None:
            return None
        profile = Profile(bytes(packed))
        mark = source.get(user_fingerprint(user.decode()), db=self._before[ERASURES]) if has_marks else None
        return without(profile, read_erasure(mark)[0]) if mark else profile

    def _bring_rest(self, after: Environment) -> None:
        """Copy the small databases, which need to be copied once only."""
        with self._before.begin() as source, after.begin(write=True) as target:
            for name in (PROGRESS, ABOUT):
                for key, value in source.cursor(self._before[name]):
                    if key not in INTERNAL:
                        target.put(key, value, db=after[name])
            since = source.get(ERASED_SINCE_COPY, db=self._before[ABOUT])
            if since is not None:
                target.put(ERASED_SINCE, since, db=after[ABOUT])


def _some(rows: Iterator[Row]) -> tuple[list[Row], bool]:
    """Return some rows, which are not too many and not too large, and whether they are the last ones."""
    some, size = [], 0
    for key, value in rows:
        some.append((key, value))
        size += len(value)
        if len(some) == STEP or size > STEP_BYTES:
            return some, False
    return some, True


def _sync(environment: Environment) -> None:
    environment.lmdb.sync(True)  # noqa: FBT003  # LMDB names it `force`
