"""Interactions as `feed.interactions.v1` carries them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from recsvc.domain.interaction import MAX_RATING, Interaction, InteractionType
from servicekit.inputs.json_fields import JsonObject
from servicekit.inputs.numbers import read_number

MAX_BYTES: Final = 64 * 1024
"""Of a message; the longest that the bridge writes has a hundredth of it."""


class MalformedError(ValueError):
    """A message that is no interaction."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UserInteraction:
    """What was done, and by whom."""

    user_id: str
    interaction: Interaction


def parse(value: bytes | None, rating: bytes | str | None = None) -> UserInteraction:
    """Return the interaction of a message; MalformedError says what is wrong with it.

    Args:
        value: Of the message.
        rating: Its header of this name, 0 to 5.
    """
    try:
        fields = JsonObject(value or b"", max_bytes=MAX_BYTES)
        user_id, video_id = fields.identifier("userId"), fields.identifier("videoId")
        kind, watch_ms = InteractionType(fields.text("interactionType")), fields.whole("watchTime")
        moment = datetime.fromisoformat(fields.text("timestamp"))
        if moment.tzinfo is None:
            raise ValueError("timestamp has no zone")  # noqa: TRY301  # one place says what follows
        stars = None if rating is None else read_number(rating, least=0, most=MAX_RATING)
        at_ms = round(moment.timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise MalformedError(f"{type(error).__name__}: {error}"[:200]) from None
    return UserInteraction(user_id=user_id, interaction=Interaction(video_id, kind, at_ms, watch_ms, stars))
