"""What the profile log holds: what callers told of users, and who must be forgotten; one line of JSON each.

Lines are read with the same care as what callers send: a file may be damaged, or written by a later release.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from recsvc.domain.interaction import MAX_RATING, Interaction, InteractionType
from servicekit.inputs.identifiers import identifier_problem
from servicekit.inputs.json_fields import MAX_WHOLE, JsonObject
from servicekit.inputs.numbers import finite

MAX_LINE_BYTES: Final = 1 << 20
"""Of one entry; the largest that a call can make has less than half of it."""
EARLIEST_MS: Final = -(2**53)
MAX_MARK_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Update:
    """What a caller told of a user."""

    user_id: str
    told_ms: int
    """Milliseconds since 1970 UTC."""
    done: list[Interaction]


@dataclass(frozen=True, slots=True)
class Erasure:
    """That a user is to be forgotten."""

    mark: bytes
    """The user's fingerprint."""
    at_ms: int
    """What was told or happened up to then is forgotten, milliseconds since 1970 UTC."""


Entry: TypeAlias = Update | Erasure


def encode(entry: Entry) -> bytes:
    """Return an entry's line."""
    fields: dict[str, Any]
    if isinstance(entry, Erasure):
        fields = {"forget": entry.mark.hex(), "at": entry.at_ms}
    else:  # in the order that `owner` reads
        fields = {"user": entry.user_id, "told": entry.told_ms, "did": entry.done}
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Entry:
    """Return a line's entry; ValueError for anything else."""
    fields = JsonObject(line, max_bytes=MAX_LINE_BYTES)
    if "forget" in fields:
        return Erasure(_mark(fields.text("forget")), fields.whole("at", least=EARLIEST_MS))
    rows = fields.items("did")
    return Update(fields.identifier("user"), fields.whole("told", least=EARLIEST_MS), [*map(_interaction, rows)])


def _mark(text: str) -> bytes:
    mark = bytes.fromhex(text)
    if not 0 < len(mark) <= MAX_MARK_BYTES:
        raise ValueError(f"a fingerprint has {len(mark)} bytes")
    return mark


def _interaction(row: Any) -> Interaction:
    if not isinstance(row, list) or len(row) != len(Interaction._fields):
        raise ValueError("an interaction is no list of its fields")
    video_id, kind, at_ms, watch_ms, rating = row
    if not isinstance(video_id, str) or identifier_problem(video_id):
        raise ValueError("a video's identifier is not valid")
    video_id.encode()  # UnicodeEncodeError, a ValueError, for half of a surrogate pair
    stars = None if rating is None else finite(rating, least=0, most=MAX_RATING)
    return Interaction(video_id, InteractionType(kind), _whole(at_ms, EARLIEST_MS), _whole(watch_ms, 0), stars)


def _whole(value: Any, least: int) -> int:
    if type(value) is not int or not least <= value <= MAX_WHOLE:
        raise ValueError(f"{value!r} is no integer from {least} to {MAX_WHOLE}")
    return value


_UPDATE: Final = re.compile(rb'\{"user":("(?:[^"\\]|\\.){1,2000}"),"told":(-?\d{1,16}),')
_ERASURE: Final = re.compile(rb'\{"forget":"([0-9a-f]{1,128})","at":(-?\d{1,16})\}')


def owner(line: bytes) -> tuple[str, int] | None:
    """Return whose update a line is, and when it was told, by its first bytes; None where it seems to be none."""
    found = _UPDATE.match(line)
    if not found:
        return None
    try:
        user_id = json.loads(found[1])
        user_id.encode()
    except ValueError:
        return None
    return user_id, int(found[2])


def erasure(line: bytes) -> tuple[bytes, int] | None:
    """Return the fingerprint and the time of an erasure's line; None for other lines."""
    found = _ERASURE.match(line)
    if not found or len(found[1]) % 2:
        return None
    return bytes.fromhex(found[1].decode()), int(found[2])
