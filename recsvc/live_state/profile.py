"""One user's interactions since training, packed into the bytes that the store holds.

A head, then the numbers of all interactions, then the videos' names: numbers are read at the speed of C, and a newer
interaction is added without reading the others. Checksums over both parts tell a value that the disk changed.
"""

import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Final, Self, TypeVar
from zlib import crc32

from recsvc.domain.interaction import Interaction, InteractionType

R = TypeVar("R", bound=tuple[object, ...])
Row = tuple[str, int, int, int, float]
"""An interaction: its video, the number of its type, when, milliseconds watched, and stars or NO_STARS."""

MAX_PER_USER: Final = 1000
"""Interactions kept of one user, the newest."""
MAX_WATCH_MS: Final = 2**32 - 1
"""A longer watch, of seven weeks, counts as one of this length."""
MAX_AT_MS: Final = 2**62
"""An instant beyond counts as this one."""
NO_STARS: Final = -1.0
_TYPES: Final = tuple(InteractionType)
_NUMBERS: Final = {one: number for number, one in enumerate(_TYPES)}
_AT_MS: Final = 2
"""Place of the time in a row, as in an `Interaction`."""
_HEAD: Final = struct.Struct("<IIqqqI")
"""Checksums of the numbers and of the names, when the profile was told last, its oldest and newest interactions, and
how many there are."""
_HEAD_SUM: Final = struct.Struct("<I")
"""Checksum of the head, which stands before it."""
HEAD_BYTES: Final = _HEAD_SUM.size + _HEAD.size
"""Profiles of one length that begin with the same bytes are the same: these hold the checksums of the others."""
_NUMBERS_OF_ROW: Final = struct.Struct("<BqId")
_SEPARATOR: Final = b"\0"
"""No identifier holds it."""


class DamagedError(ValueError):
    """A value of the store is not what was written."""


class Profile(Collection[Interaction]):
    """The newest interactions of one user, packed, oldest first.

    Args:
        packed: From `of` or `with_newer`; the checksum of its head is checked at once, the others when its
            interactions are read for the first time.
    """

    __slots__ = (
        "_count",
        "_is_checked",
        "_names_sum",
        "_numbers_sum",
        "newest_at_ms",
        "oldest_at_ms",
        "packed",
        "updated_at_ms",
    )

    def __init__(self, packed: bytes) -> None:
        self.packed = packed
        self._is_checked = False
        if len(packed) < HEAD_BYTES:
            raise DamagedError(f"a profile has {len(packed)} bytes")
        if crc32(packed[_HEAD_SUM.size : HEAD_BYTES]) != _HEAD_SUM.unpack_from(packed)[0]:
            raise DamagedError("the checksum of a profile's head is wrong")
        head = _HEAD.unpack_from(packed, _HEAD_SUM.size)
        self._numbers_sum, self._names_sum, self.updated_at_ms, self.oldest_at_ms, self.newest_at_ms, self._count = head

    @classmethod
    def of(cls, rows: Sequence[Row], *, updated_at_ms: int) -> Self:
        """Return a profile.

        Args:
            rows: Oldest first, at least one.
            updated_at_ms: Milliseconds since 1970 UTC.
        """
        numbers, names = _numbers(rows), _names(rows)
        return cls._joined(
            numbers,
            names,
            (crc32(numbers), crc32(names), updated_at_ms, rows[0][_AT_MS], rows[-1][_AT_MS], len(rows)),
        )

    @classmethod
    def _joined(cls, numbers: bytes, names: bytes, head: tuple[int, int, int, int, int, int]) -> Self:
        packed_head = _HEAD.pack(*head)
        return cls(b"".join((_HEAD_SUM.pack(crc32(packed_head)), packed_head, numbers, names)))

    def with_newer(self, rows: Sequence[Row], *, updated_at_ms: int, most: int = MAX_PER_USER) -> Self:
        """Return the profile with interactions that are newer than all it has, without the oldest beyond `most`.

        Args:
            rows: Oldest first, at least one.
            updated_at_ms: Milliseconds since 1970 UTC.
            most: Interactions that are kept.
        """
        if self._count + len(rows) > most:
            return self.of([*self.rows, *rows][-most:], updated_at_ms=updated_at_ms)
        middle = self._middle
        numbers, names = _numbers(rows), _SEPARATOR + _names(rows)
        head = (
            crc32(numbers, self._numbers_sum),
            crc32(names, self._names_sum),
            updated_at_ms,
            self.oldest_at_ms,
            rows[-1][_AT_MS],
            self._count + len(rows),
        )
        packed = self.packed
        return self._joined(packed[HEAD_BYTES:middle] + numbers, packed[middle:] + names, head)

    @property
    def rows(self) -> list[Row]:
        """Return the interactions, oldest first; DamagedError when they are not what was written."""
        self.check()
        middle = self._middle
        numbers, names = self.packed[HEAD_BYTES:middle], self.packed[middle:]
        found = zip(names.decode().split("\0"), _NUMBERS_OF_ROW.iter_unpack(numbers), strict=True)
        return [(name, *row) for name, row in found]

    def check(self) -> None:
        """Return when the interactions are what was written; DamagedError when they are not."""
        if self._is_checked:
            return
        middle, packed = self._middle, memoryview(self.packed)
        if crc32(packed[HEAD_BYTES:middle]) != self._numbers_sum or crc32(packed[middle:]) != self._names_sum:
            raise DamagedError("the checksum of a profile is wrong")
        self._is_checked = True

    @property
    def numbers(self) -> bytes:
        """Return the packed numbers of all interactions, unchecked."""
        return self.packed[HEAD_BYTES : self._middle]

    @property
    def names(self) -> bytes:
        """Return the videos of all interactions, as UTF-8 with a zero byte between two, unchecked."""
        return self.packed[self._middle :]

    @property
    def _middle(self) -> int:
        """Return where the names begin."""
        middle: int = HEAD_BYTES + _NUMBERS_OF_ROW.size * self._count
        return middle

    def __len__(self) -> int:
        count: int = self._count
        return count

    def __iter__(self) -> Iterator[Interaction]:
        return map(_interaction, self.rows)

    def __contains__(self, one: object) -> bool:
        return one in tuple(self)


def updated(known: Profile | None, rows: Iterable[Row], *, updated_at_ms: int, since_ms: int) -> Profile | None:
    """Return a profile with further interactions, the same object when none of them is new, None when nothing is left.

    Args:
        known: What is known already; of it, what is not later than `since_ms` goes when anything is new.
        rows: In any order, repeats included.
        updated_at_ms: When they were told, milliseconds since 1970 UTC.
        since_ms: What happened up to then is passed over.
    """
    new = sorted((row for row in dict.fromkeys(rows) if row[_AT_MS] > since_ms), key=itemgetter(_AT_MS))
    if known is None:
        return Profile.of(new[-MAX_PER_USER:], updated_at_ms=updated_at_ms) if new else None
    if not new:
        return known
    if new[0][_AT_MS] > known.newest_at_ms and known.oldest_at_ms > since_ms:
        return known.with_newer(new, updated_at_ms=updated_at_ms)
    before = [row for row in known.rows if row[_AT_MS] > since_ms]
    held = set(before)
    new = [row for row in new if row not in held]
    if not new and len(before) == len(known):
        return known
    merged = merge(before, new)[-MAX_PER_USER:]
    return Profile.of(merged, updated_at_ms=updated_at_ms) if merged else None


def without(known: Profile, up_to_ms: int) -> Profile | None:
    """Return a profile without what happened up to a time, None when nothing is left."""
    if known.oldest_at_ms > up_to_ms:
        return known
    left = [row for row in known.rows if row[_AT_MS] > up_to_ms]
    return Profile.of(left, updated_at_ms=known.updated_at_ms) if left else None


def copied(found: bytes | memoryview, before: bytes | None) -> bytes:
    """Return a packed profile's bytes, `before` and no copy where they are the same."""
    if before is not None and len(found) == len(before) and found[:HEAD_BYTES] == before[:HEAD_BYTES]:
        return before
    return bytes(found)


def merge(before: Iterable[R], new: Iterable[R]) -> tuple[R, ...]:
    """Return all, oldest first; those of one instant in the order in which they were told."""
    return tuple(sorted((*before, *new), key=itemgetter(_AT_MS)))


def row_of(one: Interaction) -> Row:
    """Return an interaction as a row."""
    rating = NO_STARS if one.rating is None else one.rating
    at_ms = max(-MAX_AT_MS, min(one.at_ms, MAX_AT_MS))
    return one.video_id, _NUMBERS[one.kind], at_ms, max(0, min(one.watch_ms, MAX_WATCH_MS)), rating


def _interaction(row: Row) -> Interaction:
    video_id, kind, at_ms, watch_ms, rating = row
    return Interaction(video_id, _TYPES[kind], at_ms, watch_ms, None if rating == NO_STARS else rating)


def _numbers(rows: Sequence[Row]) -> bytes:
    pack = _NUMBERS_OF_ROW.pack
    return b"".join([pack(kind, at_ms, watch_ms, rating) for _, kind, at_ms, watch_ms, rating in rows])


def _names(rows: Sequence[Row]) -> bytes:
    return "\0".join([row[0] for row in rows]).encode()
