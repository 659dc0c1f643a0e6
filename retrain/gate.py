"""The gate before training: is the last day's data what a day's data has been?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

LOOK_BACK: Final = 7
"""Earlier days that the last one is compared with, at most."""
FEWEST_DAYS: Final = 3
"""Earlier days below which nothing is compared."""
FEWEST_EVENTS: Final = 1000
"""Median interactions a day below which a day's figures are chance."""
LEAST_VOLUME: Final = 0.6
"""Of the median of earlier days."""
MOST_TOP_VIDEO_SHARE: Final = 0.2
MOST_NEW_VIEWER_SHARE: Final = 0.5
MOST_RISE: Final = 2.0
"""A share above its limit is refused only when it is also so many times the median of earlier days."""
MOST_BROKEN_SHARE: Final = 0.2
"""Of all rows read."""
MOST_REPEATED_SHARE: Final = 0.5
"""Of all rows read: one whole delivery that came twice is harmless."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DayFacts:
    """What the interactions of a day look like."""

    day: int
    """Days since 1970."""
    events: int
    top_video_share: float
    """Share of the interactions that are with the one video that has most, 0..1."""
    new_viewer_share: float
    """Share of the interactions that are by viewers nobody knew before the day, 0..1."""


def data_problems(days: Sequence[DayFacts], *, read: int, broken: int, repeated: int) -> list[str]:
    """Return why nothing should be trained on these days, one reason each; none when all is well.

    Args:
        days: Oldest first, at least one; the last one is judged against those before it.
        read: Rows in the exports.
        broken: Those that were dropped.
        repeated: Those that had come before.
    """
    return [*_row_problems(read, broken, repeated), *_day_problems(days)]


def _row_problems(read: int, broken: int, repeated: int) -> Iterator[str]:
    if broken > MOST_BROKEN_SHARE * read:
        yield f"{broken / read:.0%} of the rows are broken, more than {MOST_BROKEN_SHARE:.0%}"
    if repeated > MOST_REPEATED_SHARE * read:
        yield f"{repeated / read:.0%} of the rows are repeated, more than {MOST_REPEATED_SHARE:.0%}"


def _day_problems(days: Sequence[DayFacts]) -> Iterator[str]:
    *earlier, last = days[-LOOK_BACK - 1 :]
    if len(earlier) < FEWEST_DAYS:
        return
    usual = median(day.events for day in earlier)
    if usual < FEWEST_EVENTS:
        return
    if last.events < LEAST_VOLUME * usual:
        yield f"the last day has {last.events:,} interactions, {last.events / usual:.0%} of the median of {usual:,.0f}"
    yield from _rise(
        "with one video",
        last.top_video_share,
        median(day.top_video_share for day in earlier),
        MOST_TOP_VIDEO_SHARE,
    )
    yield from _rise(
        "by viewers not known before",
        last.new_viewer_share,
        median(day.new_viewer_share for day in earlier),
        MOST_NEW_VIEWER_SHARE,
    )


def _rise(what: str, share: float, usual: float, most: float) -> Iterator[str]:
    if share > most and share > MOST_RISE * usual:
        yield f"{share:.0%} of the last day's interactions are {what}; the median is {usual:.0%}"
