"""Updates and deletions of profiles, as `recsvc.profile-updates.v1` carries them to every machine."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from recsvc.domain.interaction import Interaction
from recsvc.live_state.profile import MAX_WATCH_MS

TOPIC: Final = "recsvc.profile-updates.v1"
SCHEMA: Final = 1
ERASED_AT: Final = "erased-at"
"""Header of a tombstone: up to when all is forgotten."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Message(NamedTuple):
    """A message of the topic."""

    key: bytes
    """The user."""
    value: bytes | None
    """JSON; None for a tombstone, which says that the user is to be forgotten."""
    headers: list[tuple[str, bytes]]


def update_message(user_id: str, interactions: Iterable[Interaction], *, told_ms: int) -> Message:
    """Return a message with a user's interactions.

    Args:
        user_id: The user.
        interactions: What the user did.
        told_ms: When this was told, milliseconds since 1970 UTC.
    """
    value = {"schema": SCHEMA, "toldAt": iso(told_ms), "interactions": [*map(_fields, interactions)]}
    return Message(user_id.encode(), json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(), [])


def erasure_message(user_id: str, *, at_ms: int) -> Message:
    """Return the message by which a user is forgotten up to a time, milliseconds since 1970 UTC."""
    return Message(user_id.encode(), None, [(ERASED_AT, iso(at_ms).encode())])


def iso(at_ms: int) -> str:
    """Return milliseconds since 1970 UTC as ISO 8601 with three decimals and Z."""
    moment = _EPOCH + timedelta(milliseconds=at_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(one: Interaction) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "videoId": one.video_id,
        "interactionType": one.kind,
        "watchTime": min(one.watch_ms, MAX_WATCH_MS),
        "timestamp": iso(one.at_ms),
    }
    return fields if one.rating is None else fields | {"rating": one.rating}
