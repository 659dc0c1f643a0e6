"""The trending ranking: an immutable list of videos, most popular first, and the pages cut from it."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Final, TypeAlias

from bridge.domain.page import EVERYTHING, RankedVideo, VideoFilter


@dataclass(frozen=True, kw_only=True, slots=True)
class TrendingVideo:
    """A video with its popularity and what the catalogue knows of it.

    Attributes:
        ranked: The video and its time-decayed, weighted count of interactions.
        author_id: Its author; empty when unknown.
        tags: Its tags.
        duration_ms: Its length; None when unknown.
        published_at_us: When it was published, in microseconds of the Unix epoch; None when unknown.
    """

    ranked: RankedVideo
    author_id: str = ""
    tags: tuple[str, ...] = ()
    duration_ms: int | None = None
    published_at_us: int | None = None


Barred: TypeAlias = Callable[[str, str], bool]
"""Tells of a video and its author, empty when unknown, whether no page may show it."""
SURFACE_BOOST: Final = 4.0
"""How many times more a user's deed counts on the surface where it was done."""


@dataclass(frozen=True, slots=True)
class TrendingPage:
    """A page, and whether videos are left for another one."""

    videos: list[RankedVideo]
    more: bool


@dataclass(frozen=True, slots=True)
class Trending:
    """A ranking.

    Attributes:
        computed_at: When it was computed (UTC).
        videos: Most popular first; equal scores by id.
        surface_scores: For each surface, the part of videos' scores that was earned there.
    """

    computed_at: datetime
    videos: Sequence[TrendingVideo]
    surface_scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    _surfaces: Mapping[str, "Trending"] = field(init=False, compare=False, repr=False)
    _by_tag: Mapping[str, Sequence[int]] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        places: dict[str, list[int]] = {}
        for place, video in enumerate(self.videos):
            for tag in video.tags:
                places.setdefault(tag, []).append(place)
        object.__setattr__(self, "_by_tag", places)  # frozen for others
        surfaces = {name: Trending(self.computed_at, self._boosted(own)) for name, own in self.surface_scores.items()}
        object.__setattr__(self, "_surfaces", surfaces)

    def at(self, surface: str) -> "Trending":
        """Return the ranking of a surface, or this one where too little is known of it."""
        return self._surfaces.get(surface, self)

    def _boosted(self, own: Mapping[str, float]) -> list[TrendingVideo]:
        """Return the videos in the order of a surface, where what was earned there counts several times."""
        boosted = [
            replace(video, ranked=RankedVideo(video.ranked.video_id, video.ranked.score + SURFACE_BOOST * extra))
            if (extra := own.get(video.ranked.video_id))
            else video
            for video in self.videos
        ]
        return sorted(boosted, key=lambda video: (-video.ranked.score, video.ranked.video_id))

    def page(
        self,
        size: int,
        *,
        video_filter: VideoFilter = EVERYTHING,
        served: Collection[str] = (),
        seen: Collection[str] = (),
        barred: Barred = lambda _, __: False,
    ) -> TrendingPage:
        """Return the best `size` videos that pass the filter and may be shown, without those served; seen ones last."""
        skipped = frozenset(served)
        late = frozenset(seen) - skipped
        keep = _predicate(video_filter)
        matching = (
            video.ranked
            for video in self._candidates(video_filter)
            if video.ranked.video_id not in skipped
            and not barred(video.ranked.video_id, video.author_id)
            and keep(video)
        )  # lazy: an unfiltered page looks at little more than itself
        ordered = _late_last(matching, late) if late else matching
        videos = list(islice(ordered, size))
        return TrendingPage(videos, next(ordered, None) is not None)

    def _candidates(self, wanted: VideoFilter) -> Iterable[TrendingVideo]:
        """Return the videos in their order, of the wanted tags only: there may be few of them among thousands."""
        if not wanted.any_tags:
            return self.videos
        places = [self._by_tag.get(tag, ()) for tag in dict.fromkeys(wanted.any_tags)]
        merged = places[0] if len(places) == 1 else sorted({place for one in places for place in one})
        return (self.videos[place] for place in merged)


class CurrentTrending:
    """Holds the ranking that is served now; a new one takes its place by one reference."""

    def __init__(self) -> None:
        self.current: Trending | None = None

    def page(
        self,
        size: int,
        *,
        video_filter: VideoFilter = EVERYTHING,
        served: Collection[str] = (),
        seen: Collection[str] = (),
        surface: str = "",
        barred: Barred = lambda _, __: False,
    ) -> TrendingPage:
        """Return a page of a surface's current ranking; an empty one before there is any."""
        if self.current is None:
            return TrendingPage([], more=False)
        return self.current.at(surface).page(size, video_filter=video_filter, served=served, seen=seen, barred=barred)


def _late_last(videos: Iterator[RankedVideo], late: Collection[str]) -> Iterator[RankedVideo]:
    kept = []
    for video in videos:
        if video.video_id in late:
            kept.append(video)
        else:
            yield video
    yield from kept


_Predicate: TypeAlias = Callable[[TrendingVideo], bool]


def _predicate(video_filter: VideoFilter) -> _Predicate:
    conditions = tuple(_conditions(video_filter)) if video_filter != EVERYTHING else ()
    return lambda video: all(condition(video) for condition in conditions)


def _conditions(wanted: VideoFilter) -> Iterator[_Predicate]:
    """Yield one predicate for each set condition; what the catalogue does not know satisfies only `none` conditions."""
    any_tags, none_tags = frozenset(wanted.any_tags), frozenset(wanted.none_tags)
    any_authors, none_authors = frozenset(wanted.any_author_ids), frozenset(wanted.none_author_ids)
    shortest, longest, after_ns = wanted.min_duration_ms, wanted.max_duration_ms, wanted.published_after_ns
    if any_tags:
        yield lambda video: not any_tags.isdisjoint(video.tags)
    if none_tags:
        yield lambda video: none_tags.isdisjoint(video.tags)
    if any_authors:
        yield lambda video: video.author_id in any_authors
    if none_authors:
        yield lambda video: video.author_id not in none_authors
    if shortest is not None:
        yield lambda video: video.duration_ms is not None and video.duration_ms >= shortest
    if longest is not None:
        yield lambda video: video.duration_ms is not None and video.duration_ms <= longest
    if after_ns is not None:
        yield lambda video: video.published_at_us is not None and video.published_at_us * 1000 > after_ns
