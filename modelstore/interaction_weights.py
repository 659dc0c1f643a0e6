"""Defines what each type of interaction says of a user's liking; training and fold-in use the same numbers."""

from enum import StrEnum
from typing import Final, NamedTuple

LONG_WATCH_MS: Final = 18_000
"""A video watched this long counts as watched to its end."""
MAX_WEIGHT: Final = 3.0
"""Most weight of one video in a user's taste; as a weight of training it keeps a step's loss below LightFM's clip."""


class InteractionType(StrEnum):
    """Types of interactions; the values are the names in `feed.interactions.v1`."""

    IMPRESSION = "impression"
    WATCH = "watch"
    COMPLETE = "complete"
    LIKE = "like"
    UNLIKE = "unlike"
    FOLLOW = "follow"
    COMMENT = "comment"
    SHARE = "share"
    FAVORITE = "favorite"
    RATING = "rating"
    SEARCH = "search"
    SKIP = "skip"
    HIDE = "hide"


class PreferenceWeight(NamedTuple):
    """The weight of one type of interaction."""

    value: float = 0.0
    """Weight as a positive."""
    watched: float = 0.0
    """Further weight, in proportion to the share that was watched."""
    takes_back: bool = False
    """Cancels all that the user said of the video before."""
    against: float = 0.0
    """Weight as a negative; training has none, as WARP passes over negatives."""
    explicit: bool = False
    """Always counts as liked when quality is measured."""


PREFERENCE_WEIGHTS: Final = {
    InteractionType.IMPRESSION: PreferenceWeight(),
    InteractionType.WATCH: PreferenceWeight(0.3, 0.7),
    InteractionType.COMPLETE: PreferenceWeight(1.0, explicit=True),
    InteractionType.LIKE: PreferenceWeight(1.0, explicit=True),
    InteractionType.UNLIKE: PreferenceWeight(takes_back=True),
    InteractionType.FOLLOW: PreferenceWeight(1.0, explicit=True),
    InteractionType.COMMENT: PreferenceWeight(1.0, explicit=True),
    InteractionType.SHARE: PreferenceWeight(1.0, explicit=True),
    InteractionType.FAVORITE: PreferenceWeight(1.0, explicit=True),
    # Exports do not hold a rating's value; fold-in, which knows it, counts it by itself.
    InteractionType.RATING: PreferenceWeight(),
    InteractionType.SEARCH: PreferenceWeight(0.5),
    InteractionType.SKIP: PreferenceWeight(),
    InteractionType.HIDE: PreferenceWeight(takes_back=True, against=0.3),
}
"""Each type's weight, in the order of the numbers by which prepared data name types: new ones go last."""
