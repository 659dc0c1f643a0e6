"""Parts of a snapshot: files of blocks, each with the records of one database, compressed, with lengths and a checksum.

A block holds the lengths of all keys, those of all values, the keys, then the values: like beside like is compressed
better, and numpy finds the records without a loop. Neither side holds more than a block and what it was made of.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np

from recsvc.snapshots.snapshot import MAX_PARTS, SNAPSHOT_FORMAT, Part, SnapshotError
from servicekit.inputs.identifiers import MAX_ID_BYTES

MAGIC: Final = b"recsvc live state %d\n" % SNAPSHOT_FORMAT
BLOCK_BYTES: Final = 1 << 20
"""A block is closed at this size, before it is compressed."""
MAX_KEY_BYTES: Final = 4 + 2 * MAX_ID_BYTES
MAX_VALUE_BYTES: Final = 256 << 10
"""A profile of 1,000 interactions with the longest names has 150 KiB."""
MAX_BLOCK_BYTES: Final = BLOCK_BYTES + MAX_VALUE_BYTES + MAX_KEY_BYTES + 64
MAX_PACKED_BYTES: Final = MAX_BLOCK_BYTES + (MAX_BLOCK_BYTES >> 8) + 64
"""What zlib makes of what it cannot compress is hardly longer."""
PART_BYTES: Final = 16 << 20
"""A part is closed at this size: as much as is on disk at once when a snapshot is restored."""
MAX_PART_BYTES: Final = PART_BYTES + MAX_PACKED_BYTES + 64
LEVEL: Final = 1
"""Of zlib: 95 MB/s and 46 % of the size; level 6 takes four times as long for 41 %."""

_HEAD: Final = struct.Struct("<16sIIII")
"""Database, records, bytes before and after compression, checksum of the former four and the compressed bytes."""
_CHECKED: Final = _HEAD.size - 4
_LENGTHS: Final = 2 + 4


class Block(NamedTuple):
    """Records of one database."""

    database: str
    keys: Sequence[bytes]
    values: Sequence[bytes]
    raw_bytes: int


class PartWriter:
    """Writes blocks to as many files of a folder as it takes.

    Args:
        folder: Where the parts go, named by `part_name`.

    Attributes:
        parts: Those that are closed.
        raw_bytes: Of all blocks before they were compressed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None
        self._size = 0
        self._digest = hashlib.sha256()
        self._whole = hashlib.sha256()
        self.parts: list[Part] = []
        self.raw_bytes = 0

    def write(self, database: str, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Write a block."""
        raw = _joined(keys, values)
        packed = zlib.compress(raw, LEVEL)
        head = _HEAD.pack(database.encode(), len(keys), len(raw), len(packed), 0)[:_CHECKED]
        self._put(head + struct.pack("<I", zlib.crc32(packed, zlib.crc32(head))) + packed)
        self.raw_bytes += len(raw)

    def close(self) -> None:
        """Close the part that is open."""
        if self._file:
            self._file.close()
            self._file = None
            self.parts.append(Part(size=self._size, sha256=self._digest.hexdigest()))
            self._size, self._digest = 0, hashlib.sha256()

    def sha256(self) -> str:
        """Return the digest of all parts."""
        return self._whole.hexdigest()

    def _put(self, data: bytes) -> None:
        if not self._file:
            if len(self.parts) == MAX_PARTS:
                raise SnapshotError("size", f"the live state takes more than {MAX_PARTS} parts")
            self._file = (self._folder / part_name(len(self.parts))).open("wb")
            data = MAGIC + data
        self._file.write(data)
        self._digest.update(data)
        self._whole.update(data)
        self._size += len(data)
        if self._size >= PART_BYTES:
            self.close()


def part_name(number: int) -> str:
    """Return the name of a part."""
    return f"part-{number:05d}"


def read_blocks(path: Path) -> Iterator[Block]:
    """Yield the blocks of a part; SnapshotError at what is no block.

    Not more is read into memory, or decompressed, than a block may have.
    """
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise SnapshotError("format", f"{path.name} is no part of a snapshot")
        while head := file.read(_HEAD.size):
            yield _block(head, file, path.name)


def _block(head: bytes, file: BinaryIO, name: str) -> Block:
    if len(head) < _HEAD.size:
        raise SnapshotError("truncated", f"{name} ends within a block")
    database, count, raw_bytes, packed_bytes, checksum = _HEAD.unpack(head)
    if raw_bytes > MAX_BLOCK_BYTES or packed_bytes > MAX_PACKED_BYTES:
        raise SnapshotError("size", f"{name} has a block of {packed_bytes} bytes, {raw_bytes} without compression")
    packed = file.read(packed_bytes)
    if len(packed) < packed_bytes:
        raise SnapshotError("truncated", f"{name} ends within a block")
    if zlib.crc32(packed, zlib.crc32(head[:_CHECKED])) != checksum:
        raise SnapshotError("checksum", f"the checksum of a block of {name} is wrong")
    raw = _decompressed(packed, raw_bytes, name)
    keys, values = _split(raw, count, name)
    return Block(database.rstrip(b"\0").decode("ascii", "replace"), keys, values, raw_bytes)


def _decompressed(packed: bytes, raw_bytes: int, name: str) -> bytes:
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(packed, raw_bytes + 1)  # 0 would mean without a bound
    except zlib.error as error:
        raise SnapshotError("block", f"a block of {name} cannot be decompressed: {error}") from None
    if len(raw) != raw_bytes or not stream.eof or stream.unused_data:
        raise SnapshotError("size", f"a block of {name} has not the {raw_bytes} bytes that it claims")
    return raw


def _joined(keys: Sequence[bytes], values: Sequence[bytes]) -> bytes:
    key_lengths = np.fromiter(map(len, keys), "<u2", len(keys))
    value_lengths = np.fromiter(map(len, values), "<u4", len(values))
    return b"".join((key_lengths.tobytes(), value_lengths.tobytes(), *keys, *values))


def _split(raw: bytes, count: int, name: str) -> tuple[Sequence[bytes], Sequence[bytes]]:
    begin = _LENGTHS * count
    if not count or begin > len(raw):
        raise SnapshotError("block", f"a block of {name} cannot hold {count} records")
    key_lengths = np.frombuffer(raw, "<u2", count)
    value_lengths = np.frombuffer(raw, "<u4", count, 2 * count)
    if key_lengths.max() > MAX_KEY_BYTES or value_lengths.max() > MAX_VALUE_BYTES or not key_lengths.min():
        raise SnapshotError("size", f"a block of {name} has a record with a key or a value of no possible length")
    ends = np.cumsum(np.concatenate(([begin], key_lengths, value_lengths)), dtype=np.int64)
    if ends[-1] != len(raw):
        raise SnapshotError("block", f"the records of a block of {name} are not as long as the block")
    records = [raw[one:two] for one, two in pairwise(ends.tolist())]
    return records[:count], records[count:]
