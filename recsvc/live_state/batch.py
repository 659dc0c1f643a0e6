"""One write transaction of the store: all of it becomes known at once, or none."""

from collections.abc import Iterable, Mapping
from typing import Final

import lmdb

from recsvc.live_state.environment import ACTIVITY, COUNTS, ERASURES, HOURS, PROFILES, PROGRESS, Environment
from recsvc.live_state.keys import (
    erasure,
    hour_key,
    hour_of,
    partition_key,
    place,
    read_erasure,
    read_real,
    read_whole,
    real,
    whole,
    within_hour,
)
from recsvc.live_state.profile import DamagedError, Profile, Row, updated, without
from servicekit.user_fingerprint import user_fingerprint

NEVER: Final = -(1 << 62)
"""Before all times, milliseconds since 1970 UTC."""


class Batch:
    """Changes of the store, each of which sees those before it.

    Args:
        environment: The store's.
        transaction: To write with; the caller commits it.
        keep_since_ms: Interactions up to then are not kept, milliseconds since 1970 UTC.

    Attributes:
        damaged: Values that were not what had been written; they were passed over.
    """

    def __init__(self, environment: Environment, transaction: lmdb.Transaction, *, keep_since_ms: int = NEVER) -> None:
        self._transaction = transaction
        self._keep_since_ms = keep_since_ms
        self._profiles = environment[PROFILES]
        self._activity = environment[ACTIVITY]
        self._counts = environment[COUNTS]
        self._hours = environment[HOURS]
        self._erasures = environment[ERASURES]
        self._progress = environment[PROGRESS]
        self._has_erasures = transaction.stat(self._erasures)["entries"] > 0
        self.damaged = 0

    def learn(self, user_id: str, rows: Iterable[Row], *, told_ms: int) -> Profile | None:
        """Add interactions to a user's profile and return it, None when there is still none.

        What was known already, and what happened before the user was forgotten, is passed over.
        """
        key = user_id.encode()
        known = self._profile(key)
        since_ms = max(self._keep_since_ms, self._forgotten_at(user_id))
        profile = updated(self._readable(known), rows, updated_at_ms=told_ms, since_ms=since_ms)
        self._put(key, known, profile)
        return profile

    def forget(self, mark: bytes, at_ms: int, *, user_id: str | None = None) -> None:
        """Forget a user, named by fingerprint.

        Args:
            mark: The user's fingerprint.
            at_ms: What happened up to then is forgotten, also when it is told only later.
            user_id: The user, where the caller knows; else the profile goes when the store is compacted, and nobody
                is told of it meanwhile.
        """
        value = self._transaction.get(mark, db=self._erasures)
        before_ms, was_applied = read_erasure(value) if value else (at_ms, False)
        at_ms = max(at_ms, before_ms)
        is_applied = user_id is not None or (was_applied and at_ms == before_ms)
        self._transaction.put(mark, erasure(at_ms, is_applied=is_applied), db=self._erasures)
        self._has_erasures = True
        if user_id is not None:
            self.trim(user_id, at_ms)

    def trim(self, user_id: str, up_to_ms: int) -> None:
        """Drop what a user did up to a time."""
        key = user_id.encode()
        known = self._profile(key)
        readable = self._readable(known)
        self._put(key, known, without(readable, up_to_ms) if readable else None)

    def drop(self, user_id: str) -> None:
        """Drop a user's profile."""
        key = user_id.encode()
        self._put(key, self._profile(key), None)

    def count(self, sums: Mapping[tuple[int, str], float]) -> None:
        """Add to what the interactions of an hour say for a video."""
        for (hour, video_id), worth in sums.items():
            key = within_hour(hour, video_id)
            before = self._transaction.get(key, db=self._counts)
            self._transaction.put(key, real(worth + (read_real(before) if before else 0.0)), db=self._counts)
        for hour in {hour for hour, _ in sums}:
            self.touch(hour)

    def touch(self, hour: int) -> None:
        """Note that an hour's counts changed."""
        key = hour_key(hour)
        before = self._transaction.get(key, db=self._hours)
        self._transaction.put(key, whole(1 + (read_whole(before) if before else 0)), db=self._hours)

    def advance(self, topic: str, partition: int, offset: int, at_ms: int) -> None:
        """Note how far a partition is read: the next offset, and when the record before it was written."""
        self._transaction.put(partition_key(topic, partition), place(offset, at_ms), db=self._progress)

    def _profile(self, key: bytes) -> Profile | None:
        packed = self._transaction.get(key, db=self._profiles)
        try:
            return Profile(bytes(packed)) if packed else None
        except DamagedError:
            self.damaged += 1
            return None

    def _readable(self, profile: Profile | None) -> Profile | None:
        """Return a profile whose checksums are right; one that the disk changed counts as none."""
        if profile is None:
            return None
        try:
            profile.check()
        except DamagedError:
            self.damaged += 1
            return None
        return profile

    def _forgotten_at(self, user_id: str) -> int:
        if not self._has_erasures:
            return NEVER
        value = self._transaction.get(user_fingerprint(user_id), db=self._erasures)
        return read_erasure(value)[0] if value else NEVER

    def _put(self, key: bytes, before: Profile | None, after: Profile | None) -> None:
        if before is after and before is not None:
            return
        hour_before = hour_of(before.newest_at_ms) if before else None
        hour_after = hour_of(after.newest_at_ms) if after else None
        if hour_before is not None and hour_before != hour_after:
            self._transaction.delete(hour_key(hour_before) + key, db=self._activity)
        if hour_after is not None and hour_before != hour_after:
            self._transaction.put(hour_key(hour_after) + key, b"", db=self._activity)
        if after is not None:
            self._transaction.put(key, after.packed, db=self._profiles)
        elif before is not None:
            self._transaction.delete(key, db=self._profiles)
