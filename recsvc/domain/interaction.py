"""Defines a user's interaction, and its weight in the user's taste."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from modelstore.interaction_weights import (
    LONG_WATCH_MS,
    MAX_WEIGHT,
    PREFERENCE_WEIGHTS,
    InteractionType,
    PreferenceWeight,
)

__all__ = ["LONG_WATCH_MS", "MAX_WEIGHT", "PREFERENCE_WEIGHTS", "InteractionType", "PreferenceWeight"]
"""From here, too: fold-in counts by them."""

MAX_RATING: Final = 5.0
NEUTRAL_RATING: Final = MAX_RATING / 2
"""A rating that speaks neither for nor against a video."""


_STRONG: Final = 1.0


class Interaction(NamedTuple):
    """One interaction of a user. A tuple, as millions of them are kept."""

    video_id: str
    kind: InteractionType
    at_ms: int
    """Milliseconds since 1970 UTC."""
    watch_ms: int = 0
    rating: float | None = None
    """0 to 5; for ratings only."""


def completion(watch_ms: int, duration_ms: int) -> float:
    """Return the watched share, 0 to 1, of the video or of its first `LONG_WATCH_MS`; a duration of -1 is unknown."""
    full_ms = min(duration_ms, LONG_WATCH_MS) if duration_ms > 0 else LONG_WATCH_MS
    return min(1.0, watch_ms / full_ms)


def value(one: Interaction, duration_ms: int) -> float:
    """Return how much an interaction says for a video of this length; below 0 when it speaks against it."""
    meaning = PREFERENCE_WEIGHTS[one.kind]
    if one.kind is InteractionType.RATING and one.rating is not None:
        return one.rating / NEUTRAL_RATING - 1
    gained = meaning.value - meaning.against
    if meaning.watched:
        gained += meaning.watched * completion(one.watch_ms, duration_ms)
    return gained


def weights(interactions: Iterable[Interaction], durations_ms: Iterable[int]) -> dict[str, float]:
    """Return each video's weight in the user's taste, without videos of weight 0.

    Args:
        interactions: Oldest first.
        durations_ms: Length of each interaction's video, -1 where unknown.
    """
    sums: dict[str, float] = {}
    for one, duration_ms in zip(interactions, durations_ms, strict=True):
        before = 0.0 if PREFERENCE_WEIGHTS[one.kind].takes_back else sums.get(one.video_id, 0.0)
        sums[one.video_id] = max(-_STRONG, min(MAX_WEIGHT, before + value(one, duration_ms)))
    return {video_id: weight for video_id, weight in sums.items() if weight}
