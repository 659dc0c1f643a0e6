"""Checks before training whether the last day's data resemble those of earlier days."""

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Final

from retrain.data.day_facts import DayFacts

LOOK_BACK: Final = 7
"""Earlier days that the last one is compared with, at most."""
MIN_DAYS: Final = 3
"""Earlier days below which nothing is compared."""
MIN_EVENTS: Final = 1000
"""Median interactions a day below which a day's figures are chance."""
MIN_VOLUME: Final = 0.6
"""Of the median of earlier days."""
MIN_OF_KNOWN_USERS: Final = 0.7
"""Of the median of earlier days: also of a busy day, half is missed by those who were there the day before."""
MAX_SILENT_SHARE: Final = 0.3
MAX_TOP_VIDEO_SHARE: Final = 0.2
MAX_NEW_USER_SHARE: Final = 0.5
MAX_RISE: Final = 2.0
"""A share above its limit is refused only when it is also so many times the median of earlier days."""
MIN_AGREEMENT: Final = 0.5
"""Of the median of earlier days."""
TELLING_AGREEMENT: Final = 0.2
"""Median below which the videos of one day say nothing of those of the next."""
MAX_REPEAT_CHANGE: Final = 2.0
"""Times that of the day before, up or down."""
MIN_REPEATS: Final = 50
"""Repeats a day below which their share is chance."""
MAX_BROKEN_SHARE: Final = 0.2
"""Of all rows read."""
MAX_REPEATED_SHARE: Final = 0.5
"""Of all rows read: one whole delivery that came twice is harmless."""


def data_problems(days: Sequence[DayFacts], *, read: int, broken: int, repeated: int) -> list[str]:
    """Return the reasons not to train on these days; none when all is well.

    Args:
        days: Oldest first, at least one; the last one is judged against those before it.
        read: Rows in the exports.
        broken: Those that were dropped.
        repeated: Those that had come before.
    """
    return [*_row_problems(read, broken, repeated), *_day_problems(days)]


def _row_problems(read: int, broken: int, repeated: int) -> Iterator[str]:
    if broken > MAX_BROKEN_SHARE * read:
        yield f"{broken / read:.0%} of the rows are broken, more than {MAX_BROKEN_SHARE:.0%}"
    if repeated > MAX_REPEATED_SHARE * read:
        yield f"{repeated / read:.0%} of the rows are repeated, more than {MAX_REPEATED_SHARE:.0%}"


def _day_problems(days: Sequence[DayFacts]) -> Iterator[str]:
    *earlier, last = days[-LOOK_BACK - 1 :]
    if len(earlier) < MIN_DAYS or median(day.events for day in earlier) < MIN_EVENTS:
        return
    yield from _volume_problems(earlier, last)
    yield from _rise(
        "with one video", last.top_video_share, [day.top_video_share for day in earlier], MAX_TOP_VIDEO_SHARE
    )
    yield from _rise(
        "by users not known before",
        last.new_user_share,
        [day.new_user_share for day in earlier],
        MAX_NEW_USER_SHARE,
    )
    yield from _identity_problems(earlier, last)


def _volume_problems(earlier: Sequence[DayFacts], last: DayFacts) -> Iterator[str]:
    usual = median(day.events for day in earlier)
    if last.events < MIN_VOLUME * usual:
        yield f"the last day has {last.events:,} interactions, {last.events / usual:.0%} of the median of {usual:,.0f}"
        return
    silent = last.silent_share
    if silent > MAX_SILENT_SHARE:
        yield f"the last day has next to nothing in hours that usually hold {silent:.0%} of the interactions"
        return
    expected = median(day.events_of_known_users for day in earlier)
    if last.events_of_known_users < MIN_OF_KNOWN_USERS * expected:
        yield (
            f"users of the day before have {last.events_of_known_users:.2f} interactions each on the last day, "
            f"{last.events_of_known_users / expected:.0%} of the median of {expected:.2f}: some are missing"
        )


def _identity_problems(earlier: Sequence[DayFacts], last: DayFacts) -> Iterator[str]:
    """Yield signs that identifiers changed their meaning."""
    usual = median(day.video_agreement for day in earlier)
    if usual > TELLING_AGREEMENT and last.video_agreement < MIN_AGREEMENT * usual:
        yield (
            f"the last day's videos agree with those of the day before by {last.video_agreement:.2f}, "
            f"the median is {usual:.2f}: video ids may have changed"
        )
    # The share grows with what is known of users, so the day before is the one to compare with.
    repeats = earlier[-1].repeat_share
    if max(repeats, last.repeat_share) * last.events < MIN_REPEATS:
        return
    if not repeats / MAX_REPEAT_CHANGE <= last.repeat_share <= repeats * MAX_REPEAT_CHANGE:
        yield (
            f"{last.repeat_share:.1%} of the last day's pairs of user and video had been there before, "
            f"{repeats:.1%} on the day before it: user ids may have changed"
        )


def _rise(what: str, share: float, earlier: Sequence[float], most: float) -> Iterator[str]:
    usual = median(earlier)
    if share > most and share > MAX_RISE * usual:
        yield f"{share:.0%} of the last day's interactions are {what}; the median is {usual:.0%}"
