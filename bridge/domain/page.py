"""Defines pages of the feed as values: requests, filters and results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, auto
from typing import NamedTuple, TypeAlias


class FallbackReason(StrEnum):
    """Reasons why LightFM did not rank a page; the values are metric tags."""

    DEADLINE_EXCEEDED = auto()
    UNAVAILABLE = auto()
    OVERLOADED = auto()
    ERROR = auto()
    CIRCUIT_OPEN = auto()
    NO_MODEL = auto()
    SHED = auto()
    ANONYMOUS = auto()
    EXPERIMENT = auto()
    EXHAUSTED = auto()


class ServedBy(StrEnum):
    """Rankers of a page; the values are metric tags."""

    LIGHTFM = auto()
    TRENDING = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoFilter:
    """Conditions on videos, combined with AND; an empty or None one does not restrict.

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


class RankedVideo(NamedTuple):
    """A video with the score that ranked it; a tuple, as every page makes twenty of them."""

    video_id: str
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PageRequest:
    """A valid request for a page.

    Attributes:
        user_id: The user; empty for an anonymous one and for the trending feed.
        page_size: Videos on a full page.
        surface: Where the page is shown, or empty.
        filter: Which videos may be on it.
        feed_session_id: The session; empty when the caller named none and this is its first page.
        experiment_variant_id: The variant that the caller asks for, or empty.
        request_id: The caller's name for the request, or empty.
        digest: Of the fields that stay the same from page to page.
        number: The page's place in its session, from 1.
        served: Videos that the session has shown; none of them is on the page.
        country: Where the user is; empty when unknown.
    """

    user_id: str = ""
    page_size: int
    surface: str = ""
    filter: VideoFilter = EVERYTHING
    feed_session_id: str = ""
    experiment_variant_id: str = ""
    request_id: str = ""
    digest: bytes = b""
    number: int = 1
    served: tuple[str, ...] = ()
    country: str = ""


@dataclass(frozen=True, slots=True)
class PageQuery:
    """The input of a ranking.

    Attributes:
        request: The caller's request.
        seen: Videos that the user is known to have seen lately; on the page only where nothing else is left.
        diversity: How much score is traded for variety, 0 to 1.
        reserve: Videos to ask for beyond the page, in the place of those that may not be shown.
        hidden_author_ids: Authors none of whose videos may be on it, as which those are is not known here.
    """

    request: PageRequest
    seen: Sequence[str] = ()
    diversity: float = 0.0
    reserve: int = 0
    hidden_author_ids: Sequence[str] = ()


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


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedPage:
    """A page as a user got it.

    Attributes:
        user_id: The user; empty for an anonymous one.
        feed_session_id: The feed session.
        number: Its place in the session, from 1.
        surface: Where it was shown, or empty.
        variant_id: The experiment variant, or empty.
        served_at: When (UTC).
        page: The page.
    """

    user_id: str
    feed_session_id: str
    number: int
    surface: str
    variant_id: str
    served_at: datetime
    page: Page


PageListener: TypeAlias = Callable[[ServedPage], None]
"""Called with each served page; must return at once and never raise."""
