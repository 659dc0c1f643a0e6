"""Videos as rows of a file, laid out as `videos.parquet` for training, with further columns."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any, Final, TypeVar

from bridge.catalogue.video import Attribute, Video
from bridge.catalogue.videos_table import Entry
from servicekit.inputs.json_fields import JsonObject
from servicekit.inputs.numbers import finite

T = TypeVar("T")

COLUMNS: Final = (
    "videoId", "authorId", "tags", "durationMs", "uploadDate", "language", "expiresAt", "allowedCountries",
    "deniedCountries", "ageRating", "attributes", "embedding",
)  # fmt: skip
"""Columns that are read; an export also has `hidden` and `revision`."""


def read_row(row: Mapping[str, Any]) -> Video:
    """Return the video of a row; ValueError names the column that holds something else."""

    def column(name: str, read: Callable[[Any], T], nothing: T) -> T:
        value = row.get(name)
        try:
            return nothing if value is None else read(value)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{name}: {error}") from None

    return Video(
        video_id=column("videoId", _text, ""),
        author_id=column("authorId", _text, ""),
        tags=column("tags", _texts, ()),
        language=column("language", _text, ""),
        duration_ms=column("durationMs", _whole, None),
        published_at=column("uploadDate", _instant, None),
        expires_at=column("expiresAt", _instant, None),
        allowed_countries=column("allowedCountries", _texts, ()),
        denied_countries=column("deniedCountries", _texts, ()),
        age_rating=column("ageRating", _whole, None),
        attributes=column("attributes", _attributes, {}),
        embedding=column("embedding", _numbers, ()),
    )


def to_row(entry: Entry) -> dict[str, Any]:
    """Return a video as a row, with whether it is hidden, itself or with its author."""
    video = entry.video
    return {
        "videoId": video.video_id,
        "authorId": video.author_id or None,
        "tags": [*video.tags],
        "durationMs": video.duration_ms,
        "uploadDate": _iso(video.published_at),
        "language": video.language or None,
        "expiresAt": _iso(video.expires_at),
        "allowedCountries": [*video.allowed_countries],
        "deniedCountries": [*video.denied_countries],
        "ageRating": video.age_rating,
        "attributes": json.dumps(dict(video.attributes), ensure_ascii=False) if video.attributes else None,
        "embedding": [*video.embedding] or None,
        "hidden": entry.hidden is not None or entry.author_hidden is not None,
        "revision": entry.revision,
    }


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat().replace("+00:00", "Z")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("is no text")  # noqa: TRY004  # as all that is wrong with a row
    value.encode()  # UnicodeEncodeError, a ValueError, for half of a surrogate pair
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("is no list")  # noqa: TRY004  # likewise
    return tuple(map(_text, value))


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise ValueError("is no whole number")
    return int(value)


def _numbers(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list):
        raise ValueError("is no list")  # noqa: TRY004  # likewise
    return tuple(map(finite, value))


def _instant(value: Any) -> datetime:
    """Return an instant (UTC); one without an offset is of UTC."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    elif isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if not isinstance(value, datetime):
        raise ValueError("is no date or time")  # noqa: TRY004  # likewise
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _attributes(value: Any) -> dict[str, Attribute]:
    if isinstance(value, dict):
        value = json.dumps(value)
    if not isinstance(value, str):
        raise ValueError("is neither an object nor JSON of one")  # noqa: TRY004  # likewise
    fields = JsonObject(value)
    return {name: _attribute(fields.value(name)) for name in fields.names()}


def _attribute(value: Any) -> Attribute:
    """Return a value as it is: `check_video` says what it must not be."""
    if isinstance(value, list):
        return tuple(value)
    attribute: Attribute = value
    return attribute
