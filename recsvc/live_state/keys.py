"""Encodes the store's keys and small values. Whoever changes the encoding raises FORMAT: the store is then rebuilt."""

import struct
from typing import Final, TypeAlias
from zlib import crc32

from recsvc.live_state.profile import DamagedError

Packed: TypeAlias = bytes | memoryview
"""What a transaction returns."""

FORMAT: Final = 1
HOUR_MS: Final = 3_600_000

FORMAT_KEY: Final = b"format"
"""Of the values about the store."""
COPYING: Final = b"copying"
"""There while a copy is made: what changes meanwhile is noted."""
ERASED_SINCE: Final = b"erased since"
"""The first erasure whose user's bytes may still be in the file, milliseconds since 1970 UTC."""
ERASED_SINCE_COPY: Final = b"erased since copying"
"""The same of erasures that a copy in progress may not leave out."""
INTERNAL: Final = frozenset({FORMAT_KEY, COPYING, ERASED_SINCE, ERASED_SINCE_COPY})

_HOUR: Final = struct.Struct(">I")  # in the order of time
_WHOLE: Final = struct.Struct("<q")
_SUM: Final = struct.Struct("<d")
_PLACE: Final = struct.Struct("<qq")
_ERASURE: Final = struct.Struct("<q?")
_CHECKSUM: Final = struct.Struct("<I")


def sealed(content: bytes) -> bytes:
    """Return bytes with their checksum behind them."""
    return content + _CHECKSUM.pack(crc32(content))


def unsealed(value: Packed) -> bytes:
    """Return the bytes of `sealed`; DamagedError when they are not what was written."""
    content, checksum = bytes(value[: -_CHECKSUM.size]), bytes(value[-_CHECKSUM.size :])
    if checksum != _CHECKSUM.pack(crc32(content)):
        raise DamagedError("the checksum of a value is wrong")
    return content


def _read(shape: struct.Struct, value: Packed) -> tuple[int, ...]:
    content = unsealed(value)
    if len(content) != shape.size:
        raise DamagedError(f"a value has {len(value)} bytes")
    return shape.unpack(content)


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
    return sealed(_WHOLE.pack(value))


def read_whole(value: Packed) -> int:
    """Return the integer of `whole`."""
    return _read(_WHOLE, value)[0]


def real(value: float) -> bytes:
    """Return a number's bytes."""
    return sealed(_SUM.pack(value))


def read_real(value: Packed) -> float:
    """Return the number of `real`."""
    return _read(_SUM, value)[0]


def place(offset: int, at_ms: int) -> bytes:
    """Return how far a partition is read: the next offset, and when the record before it was written."""
    return sealed(_PLACE.pack(offset, at_ms))


def read_place(value: Packed) -> tuple[int, int]:
    """Return the offset and the time of `place`."""
    offset, at_ms = _read(_PLACE, value)
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
    return sealed(_ERASURE.pack(at_ms, is_applied))


def read_erasure(value: Packed) -> tuple[int, bool]:
    """Return the time and the flag of `erasure`."""
    at_ms, is_applied = _read(_ERASURE, value)
    return at_ms, bool(is_applied)


def touched_key(database: int, key: bytes) -> bytes:
    """Return the note that a key changed; databases have the numbers of their places in DATABASES."""
    return bytes((database,)) + key


def read_touched(key: Packed) -> tuple[int, bytes]:
    """Return the database's number and the key of `touched_key`."""
    return key[0], bytes(key[1:])
