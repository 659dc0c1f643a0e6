"""A video as the catalogue holds it, and what it may be."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeAlias

from bridge.feed.protobuf import COUNTRY
from servicekit.grpc.request_checks import Checker
from servicekit.inputs.identifiers import identifier_problem
from servicekit.inputs.numbers import finite

Attribute: TypeAlias = str | float | bool | tuple[str, ...]

MAX_TAGS: Final = 200
MAX_TAG_BYTES: Final = 8192
"""Bytes of all tags: what trending ranks by."""
MAX_DURATION_MS: Final = 7 * 24 * 3600 * 1000
MAX_COUNTRIES: Final = 300
MAX_AGE: Final = 21
MAX_ATTRIBUTES: Final = 64
MAX_NAME_BYTES: Final = 64
MAX_TEXT_BYTES: Final = 1024
MAX_ITEMS: Final = 100
MAX_ITEM_BYTES: Final = 256
MAX_ATTRIBUTE_BYTES: Final = 16_384
"""Bytes of all attributes as JSON."""
MAX_EMBEDDING: Final = 512
LANGUAGE: Final = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Video:
    """A video; what is empty or None is not known, or does not restrict."""

    video_id: str
    author_id: str = ""
    tags: tuple[str, ...] = ()
    language: str = ""
    duration_ms: int | None = None
    published_at: datetime | None = None
    expires_at: datetime | None = None
    allowed_countries: tuple[str, ...] = ()
    denied_countries: tuple[str, ...] = ()
    age_rating: int | None = None
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    embedding: tuple[float, ...] = ()

    def row(self) -> dict[str, Any]:
        """Return the video as a row of `videos`, in JSON."""
        return {
            "video_id": self.video_id,
            "author_id": self.author_id or None,
            "tags": self.tags,
            "language_code": self.language or None,
            "duration_ms": self.duration_ms,
            "published_at": self.published_at and self.published_at.isoformat(),
            "expires_at": self.expires_at and self.expires_at.isoformat(),
            "allowed_countries": self.allowed_countries,
            "denied_countries": self.denied_countries,
            "age_rating": self.age_rating,
            "attributes": self.attributes,
            "embedding": self.embedding or None,
        }


def check_video(video: Video, checker: Checker, path: str) -> None:
    """Report every field below the path that no video may have."""
    checker.identifier(video.video_id, f"{path}.video_id")
    if video.author_id:
        checker.identifier(video.author_id, f"{path}.author_id")
    _check_tags(video, checker, path)
    if video.language:
        fits = LANGUAGE.fullmatch(video.language) is not None
        checker.require(fits, f"{path}.language", "is no BCP 47 tag such as en or pt-BR")
    duration, age = video.duration_ms, video.age_rating
    if duration is not None and not 0 <= duration <= MAX_DURATION_MS:
        checker.report(f"{path}.duration_ms", f"is {duration}, must be from 0 to {MAX_DURATION_MS}")
    if age is not None and not 0 <= age <= MAX_AGE:
        checker.report(f"{path}.age_rating", f"is {age}, must be from 0 to {MAX_AGE}")
    if video.published_at and video.expires_at and video.expires_at <= video.published_at:
        checker.report(f"{path}.expires_at", "must be after published_at")
    for name, countries in (
        ("allowed_countries", video.allowed_countries),
        ("denied_countries", video.denied_countries),
    ):
        _check_countries(countries, checker, f"{path}.{name}")
    if video.attributes:
        _check_attributes(video.attributes, checker, f"{path}.attributes")
    _check_embedding(video.embedding, checker, f"{path}.embedding")


def _check_tags(video: Video, checker: Checker, path: str) -> None:
    checker.identifiers(video.tags, f"{path}.tags", most=MAX_TAGS)
    if len({*video.tags}) < len(video.tags):
        checker.report(f"{path}.tags", "holds a tag twice")
    if sum(len(tag.encode()) for tag in video.tags) > MAX_TAG_BYTES:
        checker.report(f"{path}.tags", f"has more than {MAX_TAG_BYTES} bytes")


def _check_countries(countries: tuple[str, ...], checker: Checker, path: str) -> None:
    if len(countries) > MAX_COUNTRIES:
        checker.report(path, f"has {len(countries)} entries, at most {MAX_COUNTRIES} are allowed")
    for index, country in enumerate(countries[:MAX_COUNTRIES]):
        if not COUNTRY.fullmatch(country):
            checker.report(f"{path}[{index}]", "is no ISO 3166-1 alpha-2 code such as DE")


def _check_attributes(attributes: Mapping[str, Attribute], checker: Checker, path: str) -> None:
    if len(attributes) > MAX_ATTRIBUTES:
        checker.report(path, f"has {len(attributes)} entries, at most {MAX_ATTRIBUTES} are allowed")
        return
    reported = len(checker.violations)
    for name, value in attributes.items():
        if problem := identifier_problem(name):
            checker.report(path, f"the name {name[:MAX_NAME_BYTES]!r} {problem}")
        elif len(name.encode()) > MAX_NAME_BYTES:
            checker.report(path, f"the name {name!r} is longer than {MAX_NAME_BYTES} bytes")
        elif problem := _attribute_problem(value):
            checker.report(f"{path}[{name}]", problem)
    if reported == len(checker.violations) and len(attributes_json(attributes)) > MAX_ATTRIBUTE_BYTES:
        checker.report(path, f"has more than {MAX_ATTRIBUTE_BYTES} bytes")


def attributes_json(attributes: Mapping[str, Attribute]) -> bytes:
    """Return attributes as JSON; what is no text, number, flag or list of texts raises TypeError."""
    return json.dumps(dict(attributes), ensure_ascii=False, separators=(",", ":")).encode()


def _attribute_problem(value: object) -> str:
    match value:
        case bool():
            return ""
        case str():
            return _text_problem(value, MAX_TEXT_BYTES)
        case int() | float():
            return _number_problem(value)
        case tuple():
            if len(value) > MAX_ITEMS:
                return f"has {len(value)} entries, at most {MAX_ITEMS} are allowed"
            return next((problem for item in value if (problem := _item_problem(item))), "")
    return "is neither a text, a number, true or false, nor a list of texts"


def _number_problem(value: float) -> str:
    try:
        finite(value)
    except ValueError as error:
        return str(error)
    return ""


def _item_problem(item: object) -> str:
    return _text_problem(item, MAX_ITEM_BYTES) if isinstance(item, str) else "holds something that is no text"


def _text_problem(text: str, most: int) -> str:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "must not contain half of a surrogate pair"
    if size > most:
        return f"is longer than {most} bytes"
    return "must not contain the character NUL" if "\0" in text else ""


def _check_embedding(embedding: tuple[float, ...], checker: Checker, path: str) -> None:
    if len(embedding) > MAX_EMBEDDING:
        checker.report(path, f"has {len(embedding)} numbers, at most {MAX_EMBEDDING} are allowed")
        return
    for index, number in enumerate(embedding):
        try:
            finite(number)
        except ValueError as error:
            checker.report(f"{path}[{index}]", str(error))
            return
