"""How the store's keys and small values are written. A change raises FORMAT: the store is then rebuilt."""

import struct
from typing import Final, TypeAlias

Packed: TypeAlias = bytes | memoryview
"""What a transaction returns."""

FORMAT: Final = 1
HOUR_MS: Final = 3_600_000

_HOUR: Final = struct.Struct(">I")  # in the order of time
_WHOLE: Final = struct.Struct("<q")
_SUM: Final = struct.Struct("<d")
_PLACE: Final = struct.Struct("<qq")
_ERASURE: Final = struct.Struct("<q?")


def hour_of(at_ms: int) -> int:
    """Return the hour of an instant, since 1970; those before and those that no key can hold are brought between."""
    return max(0, min(at_ms // HOUR_MS, 2**32 - 1))


def hour_key(hour: int) -> bytes:
    """Return the key of an hour, and what the keys of all within it begin with."""
    return _HOUR.pack(hour)


def read_hour(key: Packed) -> int:
    """Return the hour of a key."""
    hour: int = _HOUR.unpack_from(key)[0]
    return hour


def within_hour(hour: int, name: str) -> bytes:
    """Return the key of a user or a video within an hour."""
    return _HOUR.pack(hour) + name.encode()


def whole(value: int) -> bytes:
    """Return an integer's bytes."""
    return _WHOLE.pack(value)


def read_whole(value: Packed) -> int:
    """Return the integer of `whole`."""
    number: int = _WHOLE.unpack(value)[0]
    return number


def real(value: float) -> bytes:
    """Return a number's bytes."""
    return _SUM.pack(value)


def read_real(value: Packed) -> float:
    """Return the number of `real`."""
    number: float = _SUM.unpack(value)[0]
    return number


def place(offset: int, at_ms: int) -> bytes:
    """Return how far a partition is read: the next offset, and when the record before it was written."""
    return _PLACE.pack(offset, at_ms)


def read_place(value: Packed) -> tuple[int, int]:
    """Return the offset and the time of `place`."""
    offset, at_ms = _PLACE.unpack(value)
    return offset, at_ms


def partition_key(topic: str, partition: int) -> bytes:
    """Return the key of a partition."""
    return f"{topic}\0{partition}".encode()


def read_partition(key: bytes) -> tuple[str, int]:
    """Return the topic and the partition of a key."""
    topic, _, number = key.decode().partition("\0")
    return topic, int(number)


def erasure(at_ms: int, *, is_applied: bool) -> bytes:
    """Return up to when a user is forgotten, and whether the user's profile was looked up and trimmed."""
    return _ERASURE.pack(at_ms, is_applied)


def read_erasure(value: Packed) -> tuple[int, bool]:
    """Return the time and the flag of `erasure`."""
    at_ms, is_applied = _ERASURE.unpack(value)
    return at_ms, is_applied
