"""Tells which records of a database are what the store could have written.

Nothing else is put into a snapshot, or taken out of one: workers read values on the way to a page.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recsvc.domain.interaction import InteractionType
from recsvc.live_state.environment import COUNTS, ERASURES, HOURS, PROFILES, PROGRESS
from recsvc.live_state.keys import read_erasure, read_partition, read_place, read_real, read_whole
from recsvc.live_state.profile import MAX_PER_USER, NO_STARS, DamagedError, Profile
from recsvc.snapshots.snapshot import MAX_OFFSET, MAX_TIME_MS, TOPIC
from servicekit.inputs.identifiers import MAX_ID_BYTES, identifier_problem
from servicekit.inputs.numbers import LARGEST, finite

CARRIED: Final = (PROGRESS, ERASURES, HOURS, COUNTS, PROFILES)
"""Databases of a snapshot, in this order: marks stand before the profiles that they are applied to."""

_ROW: Final = np.dtype([("kind", "u1"), ("at_ms", "<i8"), ("watch_ms", "<u4"), ("rating", "<f8")])
"""An interaction's numbers, as `Profile` packs them."""
_HOUR_BYTES: Final = 4
_MARK_BYTES: Final = 16
_NAMES: Final = b"\0"


def odd_records(database: str, keys: Sequence[bytes], values: Sequence[bytes]) -> list[int]:
    """Return the places of records that are not sound, in order."""
    if database == PROFILES:
        return [] if _are_profiles(keys, values) else _odd_profiles(keys, values)
    is_sound = _CHECKS[database]
    return [place for place, record in enumerate(zip(keys, values, strict=True)) if not _holds(is_sound, *record)]


def interactions_of(values: Sequence[bytes]) -> int:
    """Return how many interactions sound profiles have."""
    return sum(len(Profile(one)) for one in values)


def _holds(is_sound: Callable[[bytes, bytes], bool], key: bytes, value: bytes) -> bool:
    try:
        return is_sound(key, value)
    except (ValueError, struct.error):  # UnicodeDecodeError is a ValueError
        return False


def _odd_profiles(keys: Sequence[bytes], values: Sequence[bytes]) -> list[int]:
    return [
        place for place in range(len(keys)) if not _are_profiles(keys[place : place + 1], values[place : place + 1])
    ]


def _are_profiles(keys: Sequence[bytes], values: Sequence[bytes]) -> bool:
    """Return whether all are profiles of users; a block at once, as a look at each interaction would take too long."""
    try:
        profiles = [Profile(one) for one in values]
        for one in profiles:
            one.check()
    except DamagedError:
        return False
    counts = [len(one) for one in profiles]
    if min(counts) < 1 or max(counts) > MAX_PER_USER:
        return False
    numbers, names = [one.numbers for one in profiles], [one.names for one in profiles]
    if [len(one) for one in numbers] != [_ROW.itemsize * count for count in counts]:
        return False
    if [one.count(_NAMES) + 1 for one in names] != counts:
        return False
    return (
        _are_identifiers(keys)
        and _are_identifiers({*_NAMES.join(names).split(_NAMES)})
        and _are_numbers(np.frombuffer(b"".join(numbers), _ROW), profiles, counts)
    )


def _are_numbers(rows: NDArray[Any], heads: Sequence[Profile], counts: list[int]) -> bool:
    ends = np.fromiter(accumulate(counts), np.int64, len(counts))
    begins = ends - counts
    at_ms, ratings = rows["at_ms"], rows["rating"]
    backwards = np.flatnonzero(np.diff(at_ms) < 0) + 1
    return bool(
        (rows["kind"] < len(InteractionType)).all()
        and _are_times(at_ms)
        and _are_times(np.array([one.updated_at_ms for one in heads], np.int64))
        and np.isin(backwards, begins).all()
        and np.array_equal(at_ms[begins], [one.oldest_at_ms for one in heads])
        and np.array_equal(at_ms[ends - 1], [one.newest_at_ms for one in heads])
        and ((ratings == NO_STARS) | ((ratings >= 0) & (ratings <= LARGEST))).all()
    )


def _are_times(values: NDArray[np.int64]) -> bool:
    return bool(values.min() >= -MAX_TIME_MS and values.max() <= MAX_TIME_MS)


def _are_identifiers(names: Sequence[bytes] | set[bytes]) -> bool:
    joined = b"".join(names)
    if joined.isascii() and joined.decode().isprintable():  # nearly all of them
        return all(names) and max(map(len, names)) <= MAX_ID_BYTES
    try:
        return not any(identifier_problem(one.decode()) for one in names)
    except UnicodeDecodeError:
        return False


def _is_sum(key: bytes, value: bytes) -> bool:
    return _are_identifiers([key[_HOUR_BYTES:]]) and finite(read_real(value), least=0.0) >= 0.0


def _is_hour(key: bytes, value: bytes) -> bool:
    return len(key) == _HOUR_BYTES and 0 <= read_whole(value) <= MAX_OFFSET


def _is_mark(key: bytes, value: bytes) -> bool:
    return len(key) == _MARK_BYTES and abs(read_erasure(value)[0]) <= MAX_TIME_MS


def _is_place(key: bytes, value: bytes) -> bool:
    topic, partition = read_partition(key)
    offset, at_ms = read_place(value)
    is_named = bool(TOPIC.fullmatch(topic)) and key == f"{topic}\0{partition}".encode()
    return is_named and 0 <= partition < 2**31 and 0 <= offset <= MAX_OFFSET and abs(at_ms) <= MAX_TIME_MS


_CHECKS: Final[Mapping[str, Callable[[bytes, bytes], bool]]] = {
    PROGRESS: _is_place,
    ERASURES: _is_mark,
    HOURS: _is_hour,
    COUNTS: _is_sum,
}
