"""The manifest of a snapshot: its Kafka cluster, the offsets that it reaches, and the digests of its parts.

The manifest is one line of JSON and a line with its SHA-256, and is written last.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Final, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recsvc.live_state.keys import FORMAT

SNAPSHOT_FORMAT: Final = 1
"""Version of the layout: raise it when parts are written in another way, or mean something else."""
MAX_MANIFEST_BYTES: Final = 2 << 20
MAX_PARTS: Final = 4096
MAX_PARTITIONS: Final = 10_000
MAX_TIME_MS: Final = 2**53
MAX_OFFSET: Final = 2**62
NAME: Final = re.compile(r"[0-9]{16}-[0-9a-f]{16}")
"""When it was taken, in milliseconds since 1970 UTC, so that names sort by age, and a random number."""
TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")

Partition: TypeAlias = tuple[str, int]
Count: TypeAlias = Annotated[int, Field(ge=0, le=2**53)]
Digest: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class SnapshotError(ValueError):
    """A snapshot cannot be taken, or must not be used.

    Attributes:
        reason: One of a small set of words, to count by.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Part(BaseModel):
    """The size and the digest of one object of a snapshot."""

    model_config = ConfigDict(frozen=True, strict=True)

    size: Count
    sha256: Digest


class Offset(BaseModel):
    """The next offset to read of one partition."""

    model_config = ConfigDict(frozen=True, strict=True)

    topic: Annotated[str, Field(pattern=f"^{TOPIC.pattern}$")]
    partition: Annotated[int, Field(ge=0, le=2**31 - 1)]
    offset: Annotated[int, Field(ge=0, le=MAX_OFFSET)]
    """Of the next record."""
    at_ms: Annotated[int, Field(ge=-MAX_TIME_MS, le=MAX_TIME_MS)]
    """When the record before it was written."""


class Snapshot(BaseModel):
    """The manifest of one snapshot."""

    model_config = ConfigDict(frozen=True, strict=True)

    format: int = SNAPSHOT_FORMAT
    keys_format: int = FORMAT
    """Of the store's keys and values."""
    name: Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
    created_at_ms: Annotated[int, Field(ge=0, le=MAX_TIME_MS)]
    cluster_id: Annotated[str, Field(pattern=r"^[!-~]{1,128}$")]
    """Of the Kafka cluster that the offsets belong to."""
    offsets: Annotated[list[Offset], Field(min_length=1, max_length=MAX_PARTITIONS)]
    records: dict[str, Count]
    """How many each database has."""
    interactions: Count
    raw_bytes: Count
    """Of all blocks before they were compressed."""
    left_out: Count
    """Records that were not what had been written."""
    marks_sha256: Digest
    """Of the erasure marks that it was taken with: another digest, and it may hold a user who was erased since."""
    parts: Annotated[list[Part], Field(min_length=1, max_length=MAX_PARTS)]
    sha256: Digest
    """Of all parts, one after the other."""

    def places(self) -> Mapping[Partition, tuple[int, int]]:
        """Return the next offset by topic and partition, and when the record before it was written."""
        return {(one.topic, one.partition): (one.offset, one.at_ms) for one in self.offsets}

    def encode(self) -> bytes:
        """Return the manifest's bytes."""
        line = self.model_dump_json().encode()
        return b"%b\n%b\n" % (line, hashlib.sha256(line).hexdigest().encode())


def read_snapshot(data: bytes, name: str) -> Snapshot:
    """Return a snapshot from its manifest; SnapshotError when it is damaged or of another format.

    Args:
        data: Of the manifest.
        name: The name that it was found by.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise SnapshotError("manifest", f"the manifest has {len(data)} bytes, at most {MAX_MANIFEST_BYTES} are read")
    line, _, rest = data.partition(b"\n")
    if rest != hashlib.sha256(line).hexdigest().encode() + b"\n":
        raise SnapshotError("manifest", "the checksum of the manifest is wrong")
    try:
        snapshot = Snapshot.model_validate_json(line)
    except ValidationError as error:
        raise _refusal(error, line) from None
    if (snapshot.format, snapshot.keys_format) != (SNAPSHOT_FORMAT, FORMAT):
        raise _foreign(snapshot.format, snapshot.keys_format)
    if snapshot.name != name:
        raise SnapshotError("manifest", f"the manifest is that of {snapshot.name}")
    if len(snapshot.places()) != len(snapshot.offsets):
        raise SnapshotError("manifest", "the manifest has a partition twice")
    return snapshot


class _Formats(BaseModel):
    """The fields that a manifest of any format has."""

    format: int
    keys_format: int


def _refusal(error: ValidationError, line: bytes) -> SnapshotError:
    """Return why a manifest is refused: one of a later format may differ in everything else."""
    try:
        formats = _Formats.model_validate_json(line)
    except ValidationError:
        formats = None
    if formats and (formats.format, formats.keys_format) != (SNAPSHOT_FORMAT, FORMAT):
        return _foreign(formats.format, formats.keys_format)
    problem = error.errors()[0]
    return SnapshotError("manifest", f"{'.'.join(map(str, problem['loc']))} of the manifest: {problem['msg']}")


def _foreign(snapshot_format: int, keys_format: int) -> SnapshotError:
    return SnapshotError("format", f"the snapshot has the format {snapshot_format} with keys of {keys_format}")
