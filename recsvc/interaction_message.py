"""Interactions as `feed.interactions.v1` carries them."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from recsvc.interactions import MAX_RATING, Interaction, Kind
from servicekit.validation import identifier_problem

MOST_MS: Final = 2**53
"""Milliseconds; what is above it no JSON parser is bound to keep."""


class MalformedError(ValueError):
    """A message that is no interaction."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewerInteraction:
    """What was done, and by whom."""

    user_id: str
    interaction: Interaction


def parse(value: bytes | None, rating: bytes | None = None) -> ViewerInteraction:
    """Return the interaction of a message; MalformedError says what is wrong with it.

    Args:
        value: Of the message.
        rating: Its header of this name, 0 to 5.
    """
    try:
        fields: Any = json.loads(value or b"")
        kind = Kind(fields["interactionType"])
        watch_ms = fields["watchTime"]
        moment = datetime.fromisoformat(fields["timestamp"])
        user_id, video_id = _identifier(fields["userId"]), _identifier(fields["videoId"])
        stars = None if rating is None else float(rating)
    except (ValueError, KeyError, TypeError) as error:
        raise MalformedError(f"{type(error).__name__}: {error}") from None
    if type(watch_ms) is not int or not 0 <= watch_ms <= MOST_MS:
        raise MalformedError("watchTime is not a count of milliseconds")
    if moment.tzinfo is None:
        raise MalformedError("timestamp has no zone")
    if stars is not None and not 0 <= stars <= MAX_RATING:
        raise MalformedError(f"rating is not from 0 to {MAX_RATING:g}")
    at_ms = round(moment.timestamp() * 1000)
    return ViewerInteraction(user_id=user_id, interaction=Interaction(video_id, kind, at_ms, watch_ms, stars))


def _identifier(text: Any) -> str:
    if not isinstance(text, str) or identifier_problem(text):
        raise ValueError("an identifier is not valid")
    text.encode()  # UnicodeEncodeError, a ValueError, for half of a surrogate pair
    return text
