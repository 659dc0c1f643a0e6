"""Changes of visibility as values, and their lines in the file that keeps them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any, Final, TypeAlias

from servicekit.inputs.json_fields import JsonObject

MAX_LINE_BYTES: Final = 64 << 20
"""Of one line, as an author may have many videos."""
MAX_INSTANT_S: Final = 1e12
"""Of an instant, in seconds from 1970, that is told from never."""


class Kind(StrEnum):
    """Kinds of things that can be hidden."""

    VIDEO = auto()
    AUTHOR = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """The state in Postgres of a video or author that is, or was, hidden.

    Attributes:
        kind: Which of the two.
        id: Its id.
        revision: Of this state.
        hidden: Whether it is hidden.
        taken_in: The hides from Kafka that Postgres has taken in, the last ones.
    """

    kind: Kind
    id: str
    revision: int
    hidden: bool
    taken_in: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class FromKafka:
    """A hide that was acknowledged by Kafka alone: it counts until Postgres has taken it in.

    Attributes:
        kind: What is hidden.
        id: Its id.
        hide_id: The hide.
    """

    kind: Kind
    id: str
    hide_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Times and places at which a video may be shown.

    Attributes:
        video_id: The video.
        revision: Of the video.
        expires_at_s: Seconds since 1970 from which on it may not be; infinite for one that does not expire.
        allowed: The only countries where it may be; everywhere when empty.
        denied: Countries where it may not be.
    """

    video_id: str
    revision: int
    expires_at_s: float = math.inf
    allowed: frozenset[str] = frozenset()
    denied: frozenset[str] = frozenset()

    @property
    def is_limited(self) -> bool:
        """True where a time or place bars the video."""
        return self.expires_at_s < math.inf or bool(self.allowed) or bool(self.denied)

    def bars(self, country: str, now_s: float) -> bool:
        """Return whether it may not be shown in a country, empty when unknown, at a time."""
        if now_s >= self.expires_at_s:
            return True
        return bool(country) and (country in self.denied or bool(self.allowed and country not in self.allowed))


@dataclass(frozen=True, kw_only=True, slots=True)
class Works:
    """All videos of a hidden author, as Postgres has them."""

    author_id: str
    video_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Authorship:
    """The author of a video now, where that one is, or was, a hidden author."""

    video_id: str
    author_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadOffsets:
    """The next offset of each partition of the topic."""

    offsets: tuple[tuple[int, int], ...]


Change: TypeAlias = Stored | FromKafka | Limits | Works | Authorship | ReadOffsets


def to_fields(change: Change) -> dict[str, Any]:
    """Return a change as JSON has it."""
    match change:
        case Stored():
            more = {"taken": change.taken_in} if change.taken_in else {}
            return {"is": change.kind, "id": change.id, "r": change.revision, "h": change.hidden, **more}
        case FromKafka():
            return {"is": "kafka", "of": change.kind, "id": change.id, "hide": change.hide_id}
        case Limits():
            expires = {"e": change.expires_at_s} if change.expires_at_s < math.inf else {}
            places = {"a": sorted(change.allowed), "d": sorted(change.denied)}
            return {"is": "limits", "id": change.video_id, "r": change.revision, **expires, **places}
        case Works():
            return {"is": "works", "id": change.author_id, "v": change.video_ids}
        case Authorship():
            return {"is": "by", "id": change.video_id, "a": change.author_id}
        case ReadOffsets():
            return {"is": "offsets", "o": change.offsets}


def from_line(line: bytes) -> Change:
    """Return the change of a line; ValueError for any other line."""
    fields = JsonObject(line, max_bytes=MAX_LINE_BYTES)
    match fields.text("is"):
        case Kind.VIDEO | Kind.AUTHOR as kind:
            taken = _texts(fields.items("taken")) if "taken" in fields else ()
            hidden = fields.value("h") is True
            return Stored(
                kind=Kind(kind), id=fields.text("id"), revision=fields.whole("r"), hidden=hidden, taken_in=taken
            )
        case "kafka":
            return FromKafka(kind=Kind(fields.text("of")), id=fields.text("id"), hide_id=fields.text("hide"))
        case "limits":
            return Limits(
                video_id=fields.text("id"),
                revision=fields.whole("r"),
                expires_at_s=fields.number("e", least=-MAX_INSTANT_S, most=MAX_INSTANT_S)
                if "e" in fields
                else math.inf,
                allowed=frozenset(_texts(fields.items("a"))),
                denied=frozenset(_texts(fields.items("d"))),
            )
        case "works":
            return Works(author_id=fields.text("id"), video_ids=_texts(fields.items("v")))
        case "by":
            return Authorship(video_id=fields.text("id"), author_id=fields.text("a"))
        case "offsets":
            return ReadOffsets(offsets=tuple(_pair(one) for one in fields.items("o")))
        case other:
            raise ValueError(f"{other!r} is no kind of change")


def _texts(items: Sequence[Any]) -> tuple[str, ...]:
    if not all(isinstance(one, str) for one in items):
        raise ValueError("an array holds something other than texts")
    return tuple(items)


def _pair(item: Any) -> tuple[int, int]:
    if not isinstance(item, list) or len(item) != 2 or any(type(one) is not int or one < 0 for one in item):
        raise ValueError("an offset is no pair of numbers")
    return item[0], item[1]
