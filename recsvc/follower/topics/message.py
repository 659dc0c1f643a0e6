"""Reads messages of the followed topics; one that cannot be read raises an error of its own and stops nothing."""

from datetime import datetime
from typing import Any, Final, NamedTuple

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE

from recsvc.domain.interaction import MAX_RATING, Interaction, InteractionType
from recsvc.profile_updates.message import ERASED_AT, SCHEMA
from recsvc.profile_updates.message import TOPIC as UPDATES
from servicekit.inputs.identifiers import identifier_problem
from servicekit.inputs.json_fields import JsonObject
from servicekit.inputs.numbers import finite, read_number

INTERACTIONS: Final = "feed.interactions.v1"
"""Topic of what users do in the feed."""
TOPICS: Final = (INTERACTIONS, UPDATES)
MAX_BYTES: Final = 64 * 1024
"""Of an interaction; the longest that the bridge writes has a hundredth of it."""
MAX_UPDATE_BYTES: Final = 1 << 20
RATING: Final = "rating"
EVENT_ID: Final = "event-id"

__all__ = ["ERASED_AT", "UPDATES"]
"""From here, too: how updates of profiles are written is theirs to say."""

_TYPES: Final = {str(one): one for one in InteractionType}


class MalformedError(ValueError):
    """A message without the form that its topic's messages have."""


class NewerSchemaError(ValueError):
    """A message in a form that a later release writes."""


class Told(NamedTuple):
    """The interactions of one user in an update, and when the update was made."""

    user_id: str
    interactions: list[Interaction]
    told_ms: int | None = None
    """When, milliseconds since 1970 UTC; None for when it is read."""
    odd: int = 0
    """Interactions of the message that were none."""


def read_interaction(value: bytes | None, rating: bytes | str | None = None) -> tuple[str, Interaction]:
    """Return the user and the interaction of a message; MalformedError says what is wrong with it.

    Args:
        value: Of the message.
        rating: Its header of this name, 0 to 5.
    """
    try:
        fields = JsonObject(value or b"", max_bytes=MAX_BYTES)
        user_id = fields.identifier("userId")
        stars = None if rating is None else read_number(rating, least=0, most=MAX_RATING)
        return user_id, _interaction(fields, stars)
    except (ValueError, OverflowError, TypeError) as error:
        raise MalformedError(_reason(error)) from None


def read_update(key: bytes | None, value: bytes) -> Told:
    """Return the contents of an update; MalformedError or NewerSchemaError where it cannot be read.

    Args:
        key: Of the message: the user.
        value: Of the message.
    """
    try:
        user_id = read_user(key)
        fields = JsonObject(value, max_bytes=MAX_UPDATE_BYTES)
        schema, told_ms = fields.whole("schema", least=1), None
        if schema == SCHEMA:
            told_ms = _at_ms(fields.text("toldAt"))
            items = fields.items("interactions")
    except (ValueError, OverflowError, TypeError) as error:
        raise MalformedError(_reason(error)) from None
    if schema > SCHEMA:
        raise NewerSchemaError(f"schema {schema}, up to {SCHEMA} is known")
    found: list[Interaction] = []
    for item in items:
        try:
            one = JsonObject.of(item)
            stars = finite(one.value(RATING), least=0, most=MAX_RATING) if RATING in one else None
            found.append(_interaction(one, stars))
        except (ValueError, OverflowError, TypeError):  # the others count
            continue
    return Told(user_id, found, told_ms, len(items) - len(found))


def read_erasure(key: bytes | None, erased_at: Any, timestamp: tuple[int, int]) -> tuple[str, int]:
    """Return the user whom a tombstone names, and up to when all is to be forgotten; MalformedError without either.

    Args:
        key: Of the message.
        erased_at: Its header of this name, which counts where there is one.
        timestamp: Kind and time of the message.
    """
    kind, at_ms = timestamp
    try:
        user_id = read_user(key)
        if erased_at is not None:
            at_ms = _at_ms(erased_at.decode("ascii"))
        elif kind == TIMESTAMP_NOT_AVAILABLE:
            raise ValueError("a tombstone without a time")  # noqa: TRY301  # one place says what follows
    except (AttributeError, ValueError, OverflowError) as error:
        raise MalformedError(_reason(error)) from None
    return user_id, at_ms


def read_user(key: bytes | str | None) -> str:
    """Return the user of a key; ValueError where it names none."""
    user_id = key.decode() if isinstance(key, bytes) else key or ""
    if problem := identifier_problem(user_id):
        raise ValueError(f"the key {problem}")
    return user_id


def _interaction(fields: JsonObject, stars: float | None) -> Interaction:
    video_id = fields.identifier("videoId")
    kind = _TYPES.get(fields.text("interactionType"))
    if kind is None:
        raise ValueError("interactionType is not known")
    return Interaction(video_id, kind, _at_ms(fields.text("timestamp")), fields.whole("watchTime"), stars)


def _at_ms(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("timestamp has no zone")
    return round(moment.timestamp() * 1000)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
