"""What users did since training, within bounded memory.

The newest interactions of the users who were active last are kept; both limits hold however much arrives. A user
whom somebody asked to forget is a stranger from then on, whatever models know, until something new is known of them.

Profiles are kept as bytes: half a million interactions as objects would take five times the memory, and hold up all
threads for a tenth of a second whenever the garbage collector looks at them.
"""

import struct
import threading
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from operator import itemgetter
from sys import getsizeof
from typing import Final, Self, TypeVar

from recsvc.domain.interaction import Interaction, InteractionType
from servicekit.bounded import BoundedMap
from servicekit.user_fingerprint import user_fingerprint

R = TypeVar("R", bound=tuple[object, ...])

MAX_PER_USER: Final = 1000
"""Interactions kept of one user."""
MAX_INTERACTIONS: Final = 500_000
"""Interactions kept of all; about 100 bytes each."""
BYTES_EACH: Final = 512
"""Bytes for each of them at most, whatever identifiers callers choose: some profiles are dropped sooner else."""
_ENTRY_BYTES: Final = 200
"""Of a profile's entry in an ordered dictionary."""
NO_STARS: Final = -1.0
_KINDS: Final = tuple(InteractionType)
_NUMBERS: Final = {kind: number for number, kind in enumerate(_KINDS)}
_AT_MS: Final = 2
"""Place of the time in a row, as in an `Interaction`."""
_HEAD: Final = struct.Struct("<qqI")
"""When a profile was told last, its oldest interaction, and how many there are."""
_NEVER: Final = -(1 << 62)
"""Before all times, milliseconds since 1970 UTC."""


_Row = tuple[str, int, int, int, float]
"""An interaction: its video, the number of its kind, when, milliseconds watched, and stars or NO_STARS."""


class Profile(Collection[Interaction]):
    """What one user did since training, oldest first.

    Args:
        packed: The same object as long as nothing new is known.
    """

    __slots__ = ("packed",)

    def __init__(self, packed: bytes) -> None:
        self.packed = packed

    @classmethod
    def of(cls, rows: list[_Row], *, updated_at_ms: int) -> Self:
        """Return a profile.

        Args:
            rows: Oldest first, at least one.
            updated_at_ms: Milliseconds since 1970 UTC.
        """
        names, *columns = zip(*rows, strict=True)
        head = _HEAD.pack(updated_at_ms, rows[0][_AT_MS], len(rows))
        return cls(head + _columns(len(rows)).pack(*chain(*columns)) + "\0".join(names).encode())

    @property
    def updated_at_ms(self) -> int:
        """Return when it was told last, milliseconds since 1970 UTC."""
        at_ms: int = _HEAD.unpack_from(self.packed)[0]
        return at_ms

    @property
    def oldest_at_ms(self) -> int:
        """Return when the first interaction was, milliseconds since 1970 UTC."""
        at_ms: int = _HEAD.unpack_from(self.packed)[1]
        return at_ms

    @property
    def rows(self) -> list[_Row]:
        """Return the interactions, oldest first."""
        count = len(self)
        columns = _columns(count)
        numbers = columns.unpack_from(self.packed, _HEAD.size)
        names = self.packed[_HEAD.size + columns.size :].decode().split("\0")
        return [*zip(names, *(numbers[place * count : (place + 1) * count] for place in range(4)), strict=True)]

    def __len__(self) -> int:
        count: int = _HEAD.unpack_from(self.packed)[2]
        return count

    def __iter__(self) -> Iterator[Interaction]:
        return map(_interaction, self.rows)

    def __contains__(self, one: object) -> bool:
        return one in tuple(self)


def _columns(count: int) -> struct.Struct:
    """Return how the numbers of so many rows stand after the head, column by column; the videos' names follow."""
    return struct.Struct(f"<{count}B{count}q{count}q{count}d")


def _row(one: Interaction) -> _Row:
    return one.video_id, _NUMBERS[one.kind], one.at_ms, one.watch_ms, NO_STARS if one.rating is None else one.rating


def _interaction(row: _Row) -> Interaction:
    video_id, kind, at_ms, watch_ms, rating = row
    return Interaction(video_id, _KINDS[kind], at_ms, watch_ms, None if rating == NO_STARS else rating)


class Profiles:
    """Profiles by user, for many threads.

    Args:
        most: Interactions kept of all users together.
        most_a_user: Interactions kept of one.
    """

    def __init__(self, *, most: int = MAX_INTERACTIONS, most_a_user: int = MAX_PER_USER) -> None:
        self._most = most
        self._most_a_user = most_a_user
        self._profiles: BoundedMap[str, bytes] = BoundedMap()
        self._held = 0
        self._bytes = 0
        self._forgotten: dict[bytes, int] = {}
        self._lock = threading.Lock()

    def get(self, user_id: str) -> Profile | None:
        """Return a user's profile, None when there is none."""
        packed = self._profiles.get(user_id)
        if packed is None:
            return None
        profile = Profile(packed)
        if not self._forgotten:
            return profile
        at_ms = self._forgotten.get(fingerprint(user_id), _NEVER)
        if profile.oldest_at_ms > at_ms:
            return profile
        with self._lock:
            self._trim(user_id, at_ms)
        return self._kept(user_id)

    def add(self, user_id: str, interactions: Iterable[Interaction], *, now_ms: int) -> Profile | None:
        """Add interactions to a user's profile and return it, None when there is still none.

        What was known already, and what happened before the user was forgotten, is passed over.
        """
        with self._lock:
            since = self._forgotten.get(fingerprint(user_id), _NEVER) if self._forgotten else _NEVER
            self._trim(user_id, since)
            known = self._kept(user_id)
            before = known.rows if known else []
            held = set(before)
            new = [row for row in dict.fromkeys(map(_row, interactions)) if row not in held and row[_AT_MS] > since]
            if not new:
                return known
            merged = [*merge(before, new)[-self._most_a_user :]]
            profile = Profile.of(merged, updated_at_ms=now_ms)
            self._count(user_id, known, -1)
            self._count(user_id, profile, 1)
            self._profiles.put(user_id, profile.packed)
            for oldest, dropped in self._profiles.drop_while(self._is_over):
                self._count(oldest, Profile(dropped), -1)
            return profile

    def forget(self, mark: bytes, *, at_ms: int, user_id: str | None = None) -> None:
        """Forget a user, named by fingerprint.

        Args:
            mark: The user's fingerprint.
            at_ms: What happened up to then is forgotten, also when it is told only later.
            user_id: The user, where the caller knows; else the profile is dropped when it is next asked for.
        """
        with self._lock:
            self._forgotten[mark] = max(at_ms, self._forgotten.get(mark, at_ms))
            if user_id is not None:
                self._trim(user_id, at_ms)

    def forgotten_at(self, mark: bytes) -> int | None:
        """Return up to when a user is forgotten, None for one who is not."""
        return self._forgotten.get(mark)

    def is_forgotten(self, user_id: str) -> bool:
        """Return whether models must not be asked about a user."""
        return bool(self._forgotten) and fingerprint(user_id) in self._forgotten

    def __len__(self) -> int:
        return len(self._profiles)

    def _kept(self, user_id: str) -> Profile | None:
        packed = self._profiles.get(user_id)
        return None if packed is None else Profile(packed)

    def _is_over(self) -> bool:
        return self._held > self._most or self._bytes > self._most * BYTES_EACH

    def _trim(self, user_id: str, at_ms: int) -> None:
        profile = self._kept(user_id)
        if profile is None or profile.oldest_at_ms > at_ms:
            return
        del self._profiles[user_id]
        self._count(user_id, profile, -1)
        left = [row for row in profile.rows if row[_AT_MS] > at_ms]
        if left:
            kept = Profile.of(left, updated_at_ms=profile.updated_at_ms)
            self._count(user_id, kept, 1)
            self._profiles[user_id] = kept.packed

    def _count(self, user_id: str, profile: Profile | None, times: int) -> None:
        """Note that a profile came, or with -1 that it went."""
        if profile is not None:
            self._held += times * len(profile)
            self._bytes += times * (getsizeof(profile.packed) + getsizeof(user_id) + _ENTRY_BYTES)


def merge(before: Iterable[R], new: Iterable[R]) -> tuple[R, ...]:
    """Return all, oldest first; those of one instant in the order in which they were told."""
    return tuple(sorted((*before, *new), key=itemgetter(_AT_MS)))


fingerprint = user_fingerprint
"""Returns a user's name for the list of the forgotten, which must not hold names."""
