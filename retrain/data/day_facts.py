"""Describes the interactions of a day, for the gate and for the report."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class DayFacts:
    """Statistics of the interactions of a day. Shares are 0..1."""

    day: int
    """Days since 1970."""
    events: int
    top_video_share: float
    """Share of the interactions that are with the one video that has most."""
    new_user_share: float
    """Share of the interactions that are by users nobody knew before the day."""
    events_of_known_users: float
    """Interactions by users of the day before, for each of these users."""
    video_agreement: float
    """Cosine of the videos' counts with those of the day before."""
    repeat_share: float
    """Share of the pairs of user and video that had been there before."""
    silent_share: float
    """Share of earlier days' interactions in the hours of day in which this one has next to none."""
