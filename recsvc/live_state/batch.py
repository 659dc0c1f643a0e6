"""One write transaction of the store: all of it becomes known at once, or none."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import lmdb

from recsvc.live_state.environment import (
    ABOUT,
    ACTIVITY,
    COUNTS,
    DATABASES,
    ERASURES,
    HOURS,
    PROFILES,
    PROGRESS,
    TOUCHED,
    Environment,
)
from recsvc.live_state.keys import (
    COPYING,
    ERASED_SINCE,
    ERASED_SINCE_COPY,
    Packed,
    erasure,
    hour_key,
    hour_of,
    partition_key,
    place,
    read_erasure,
    read_hour,
    read_place,
    read_real,
    read_whole,
    real,
    sealed,
    touched_key,
    whole,
    within_hour,
)
from recsvc.live_state.profile import Profile, Row, updated, without
from servicekit.user_fingerprint import user_fingerprint

NEVER: Final = -(1 << 62)
"""Before all times, milliseconds since 1970 UTC."""


class Batch:
    """Changes of the store, each of which sees those before it.

    Args:
        environment: The store's.
        transaction: To write with; the caller commits it.
        keep_since_ms: Interactions up to then are not kept, milliseconds since 1970 UTC.

    Every method raises DamagedError where a value is not what had been written. The batch is then not committed: what
    it would have put in the value's place were less than what was known.
    """

    def __init__(self, environment: Environment, transaction: lmdb.Transaction, *, keep_since_ms: int = NEVER) -> None:
        self._environment = environment
        self._transaction = transaction
        self._keep_since_ms = keep_since_ms
        self._has_erasures = transaction.stat(environment[ERASURES])["entries"] > 0
        self._is_copied = self._get(ABOUT, COPYING) is not None

    def learn(self, user_id: str, rows: Iterable[Row], *, told_ms: int) -> Profile | None:
        """Add interactions to a user's profile and return it, None when there is still none.

        What was known already, and what happened before the user was forgotten, is passed over.
        """
        key = user_id.encode()
        known = self._profile(key)
        since_ms = max(self._keep_since_ms, self._forgotten_at(user_id))
        if known:
            known.check()
        profile = updated(known, rows, updated_at_ms=told_ms, since_ms=since_ms)
        self._replace(key, known, profile)
        return profile

    def forget(self, mark: bytes, at_ms: int, *, user_id: str | None = None) -> None:
        """Forget a user, named by fingerprint.

        Args:
            mark: The user's fingerprint.
            at_ms: What happened up to then is forgotten, also when it is told only later.
            user_id: The user, where the caller knows; else the profile goes when the store is compacted, and nobody
                is told of it meanwhile.
        """
        before_ms, was_applied = self._erasure(mark)
        if at_ms <= before_ms and (was_applied or user_id is None):
            return
        is_applied = user_id is not None or (was_applied and at_ms == before_ms)
        at_ms = max(at_ms, before_ms)
        self._put(ERASURES, mark, erasure(at_ms, is_applied=is_applied))
        self._has_erasures = True
        since = ERASED_SINCE_COPY if self._is_copied else ERASED_SINCE
        if self._get(ABOUT, since) is None:
            self._put(ABOUT, since, whole(at_ms))
        if user_id is not None:
            self.trim(user_id, at_ms)

    def trim(self, user_id: str, up_to_ms: int) -> None:
        """Drop what a user did up to a time."""
        key = user_id.encode()
        known = self._profile(key)
        if known:
            known.check()
            self._replace(key, known, without(known, up_to_ms))

    def drop(self, user_id: str) -> None:
        """Drop a user's profile."""
        key = user_id.encode()
        known = self._profile(key)
        if known:
            self._replace(key, known, None)

    def replace(self, user: bytes, profile: Profile | None) -> None:
        """Replace a user's profile by another one, or by none."""
        self._replace(user, self._profile(user), profile)

    def count(self, sums: Mapping[tuple[int, str], float]) -> None:
        """Add to the weight of an hour's interactions with a video."""
        for (hour, video_id), worth in sums.items():
            key = within_hour(hour, video_id)
            before = self._get(COUNTS, key)
            self._put(COUNTS, key, real(worth + (read_real(before) if before else 0.0)))
        for hour in {hour for hour, _ in sums}:
            self.touch(hour)

    def touch(self, hour: int) -> None:
        """Note that an hour's counts changed."""
        key = hour_key(hour)
        before = self._get(HOURS, key)
        self._put(HOURS, key, whole(1 + (read_whole(before) if before else 0)))

    def advance(self, topic: str, partition: int, offset: int, at_ms: int) -> None:
        """Note how far a partition is read: the next offset, and when the record before it was written."""
        self._put(PROGRESS, partition_key(topic, partition), place(offset, at_ms))

    def reached(self, topic: str, partition: int) -> tuple[int, int] | None:
        """Return how far a partition is read, as `advance` noted; None where it never was."""
        value = self._get(PROGRESS, partition_key(topic, partition))
        return read_place(value) if value else None

    def describe(self, name: str, text: str) -> None:
        """Note what the store is, such as the Kafka cluster that its offsets belong to."""
        self._put(ABOUT, name.encode(), sealed(text.encode()))

    def used_pages(self) -> int:
        """Return how many pages the store takes, as this batch leaves it."""
        return self._environment.used_pages(self._transaction)

    def sums(self) -> int:
        """Return the number of counts; each is that of a video in an hour."""
        return int(self._transaction.stat(self._environment[COUNTS])["entries"])

    def drop_oldest_users(self, *, before_hour: int) -> Iterator[str]:
        """Drop the users whose newest interaction is oldest, those before an hour, and yield each as it is gone."""
        while (key := self._first(ACTIVITY)) is not None and read_hour(key) < before_hour:
            user = key[len(hour_key(0)) :]
            known = self._profile(user)
            if known:
                self._replace(user, known, None)
            self._delete(ACTIVITY, key)
            yield user.decode()

    def drop_oldest_sums(self, *, before_hour: int) -> Iterator[int]:
        """Drop the oldest counts, those before an hour, and yield the hour of each as it is gone."""
        while (key := self._first(COUNTS)) is not None and (hour := read_hour(key)) < before_hour:
            self._delete(COUNTS, key)
            following = self._first(COUNTS)
            if following is None or read_hour(following) != hour:
                self._delete(HOURS, hour_key(hour))
            yield hour
        while (key := self._first(HOURS)) is not None and read_hour(key) < before_hour:
            self._delete(HOURS, key)

    def drop_mark(self, mark: bytes, *, before_ms: int) -> bool:
        """Drop the mark of an erasure, and return whether it still is of one before a time."""
        at_ms, is_applied = self._erasure(mark)
        is_dropped = is_applied and at_ms < before_ms
        if is_dropped:
            self._delete(ERASURES, mark)
        return is_dropped

    def _first(self, database: str) -> bytes | None:
        with self._transaction.cursor(self._environment[database]) as cursor:
            return bytes(cursor.key()) if cursor.first() else None

    def _get(self, database: str, key: bytes) -> Packed | None:
        return self._transaction.get(key, db=self._environment[database])

    def _put(self, database: str, key: bytes, value: bytes) -> None:
        self._transaction.put(key, value, db=self._environment[database])
        if self._is_copied:
            self._note(database, key)

    def _delete(self, database: str, key: bytes) -> None:
        self._transaction.delete(key, db=self._environment[database])
        if self._is_copied:
            self._note(database, key)

    def _note(self, database: str, key: bytes) -> None:
        self._transaction.put(
            touched_key(DATABASES.index(database), key), b"", db=self._environment[TOUCHED], overwrite=False
        )

    def _profile(self, key: bytes) -> Profile | None:
        packed = self._get(PROFILES, key)
        return Profile(bytes(packed)) if packed else None

    def _forgotten_at(self, user_id: str) -> int:
        if not self._has_erasures:
            return NEVER
        return self._erasure(user_fingerprint(user_id))[0]

    def _erasure(self, mark: bytes) -> tuple[int, bool]:
        value = self._get(ERASURES, mark)
        return read_erasure(value) if value else (NEVER, False)

    def _replace(self, key: bytes, before: Profile | None, after: Profile | None) -> None:
        if before is after:
            return
        hour_before = hour_of(before.newest_at_ms) if before else None
        hour_after = hour_of(after.newest_at_ms) if after else None
        if hour_before is not None and hour_before != hour_after:
            self._delete(ACTIVITY, hour_key(hour_before) + key)
        if hour_after is not None and hour_before != hour_after:
            self._put(ACTIVITY, hour_key(hour_after) + key, b"")
        if after is not None:
            self._put(PROFILES, key, after.packed)
        else:
            self._delete(PROFILES, key)
