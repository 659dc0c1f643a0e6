"""Pages of the feed as values: what is asked for, what may be on them, and what they came to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto

from bridge.codes import FallbackReason


class ServedBy(StrEnum):
    """Who ranked a page; the values are metric tags."""

    LIGHTFM = auto()
    TRENDING = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoFilter:
    """Which videos may be returned; conditions are combined with AND, an empty or None one does not restrict.

    Attributes:
        any_tags: The video bears at least one of them.
        none_tags: It bears none of them.
        any_author_ids: It is by one of them.
        none_author_ids: It is by none of them.
        min_duration_ms: It is at least this long.
        max_duration_ms: It is at most this long.
        published_after_ns: It was published strictly later, in nanoseconds of the Unix epoch.
    """

    any_tags: tuple[str, ...] = ()
    none_tags: tuple[str, ...] = ()
    any_author_ids: tuple[str, ...] = ()
    none_author_ids: tuple[str, ...] = ()
    min_duration_ms: int | None = None
    max_duration_ms: int | None = None
    published_after_ns: int | None = None


EVERYTHING = VideoFilter()
"""The filter that keeps every video."""


@dataclass(frozen=True, slots=True)
class RankedVideo:
    """A video with the score that ranked it."""

    video_id: str
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PageQuery:
    """What a viewer's next page is made from.

    Attributes:
        user_id: The viewer.
        page_size: Videos on a full page.
        surface: Where the page is shown, or empty.
        filter: Which videos may be on it.
        served: Videos that the feed session has shown; none of them is on the page.
        request_id: The caller's name for the request, or empty.
    """

    user_id: str
    page_size: int
    surface: str = ""
    filter: VideoFilter = EVERYTHING
    served: Sequence[str] = field(default=())
    request_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A ranked page.

    Attributes:
        videos: Best first.
        more: Whether another page can follow.
        algorithm: What ranked, such as "lightfm-warp" or "trending".
        served_by: Who ranked.
        model_version: The model that ranked; empty for trending.
        fallback_reason: Why LightFM did not rank; None when it did.
        attempts: Calls made to LightFM.
    """

    videos: Sequence[RankedVideo]
    more: bool
    algorithm: str
    served_by: ServedBy
    model_version: str = ""
    fallback_reason: FallbackReason | None = None
    attempts: int = 0
