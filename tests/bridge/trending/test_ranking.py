"""The trending ranking in memory and on disk."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.page import EVERYTHING, RankedVideo, VideoFilter
from bridge.trending.ranking import CurrentTrending, Trending, TrendingVideo
from bridge.trending.snapshot import load_snapshot, save_snapshot

NOON = datetime(2025, 11, 1, 12, tzinfo=UTC)
TAGS = st.lists(st.sampled_from("abc"), max_size=2, unique=True).map(tuple)
AUTHORS = st.sampled_from(["", "x", "y"])
SMALL = st.none() | st.integers(0, 3)


@st.composite
def rankings(draw: st.DrawFn) -> Trending:
    """Return a ranking of up to 30 videos, some of them unknown to the catalogue."""
    videos = [
        TrendingVideo(
            ranked=RankedVideo(f"v{number}", float(100 - number)),
            author_id=draw(AUTHORS),
            tags=draw(TAGS),
            duration_ms=draw(SMALL),
            published_at_us=draw(SMALL),
        )
        for number in range(draw(st.integers(0, 30)))
    ]
    surfaces = draw(
        st.dictionaries(
            st.sampled_from(["home", "explore"]),
            st.dictionaries(st.sampled_from(["v0", "v1", "v2"]), st.floats(0, 100)),
        )
    )
    return Trending(NOON, videos, surfaces)


FILTERS = st.builds(
    VideoFilter,
    any_tags=TAGS,
    none_tags=TAGS,
    any_author_ids=st.lists(st.sampled_from("xy"), max_size=2).map(tuple),
    none_author_ids=st.lists(st.sampled_from("xy"), max_size=1).map(tuple),
    min_duration_ms=SMALL,
    max_duration_ms=SMALL,
    published_after_ns=st.none() | st.integers(0, 3).map(lambda microseconds: microseconds * 1000 - 1),
)


def _passes(video: TrendingVideo, wanted: VideoFilter) -> bool:
    """The filter as its documentation states it, condition by condition."""
    tags, length, published = set(video.tags), video.duration_ms, video.published_at_us
    after = wanted.published_after_ns
    return (
        (not wanted.any_tags or bool(tags & set(wanted.any_tags)))
        and not tags & set(wanted.none_tags)
        and (not wanted.any_author_ids or video.author_id in wanted.any_author_ids)
        and video.author_id not in wanted.none_author_ids
        and (wanted.min_duration_ms is None or (length is not None and length >= wanted.min_duration_ms))
        and (wanted.max_duration_ms is None or (length is not None and length <= wanted.max_duration_ms))
        and (after is None or (published is not None and published * 1000 > after))
    )


NUMBERS = st.sets(st.integers(0, 30))


@given(rankings(), st.just(EVERYTHING) | FILTERS, NUMBERS, NUMBERS, st.integers(1, 12))
def test_page_is_the_best_of_what_may_be_shown(
    trending: Trending, wanted: VideoFilter, served: set[int], seen: set[int], size: int
) -> None:
    """What the session has shown is left out; what the user has seen comes when nothing else is left."""
    skipped, late = [f"v{number}" for number in served], [f"v{number}" for number in seen]
    page = trending.page(size, video_filter=wanted, served=skipped, seen=late)
    allowed = [
        video.ranked for video in trending.videos if _passes(video, wanted) and video.ranked.video_id not in skipped
    ]
    allowed.sort(key=lambda video: video.video_id in late)
    assert page.videos == allowed[:size]
    assert page.more == (len(allowed) > size)


@given(rankings())
def test_surface_orders_the_same_videos(trending: Trending) -> None:
    for surface in ("home", "explore", "unknown"):
        ranked = [video.ranked for video in trending.at(surface).videos]
        assert {video.video_id for video in ranked} == {video.ranked.video_id for video in trending.videos}
        assert [video.score for video in ranked] == sorted((video.score for video in ranked), reverse=True)


def test_nothing_yet_is_an_empty_page() -> None:
    page = CurrentTrending().page(20)
    assert (page.videos, page.more) == ([], False)


@given(trending=rankings())
def test_snapshot_round_trip(tmp_path_factory: pytest.TempPathFactory, trending: Trending) -> None:
    path = tmp_path_factory.getbasetemp() / "deep" / "er" / "snapshot.json"
    save_snapshot(path, trending)
    assert load_snapshot(path) == trending
    assert [file.name for file in path.parent.iterdir()] == ["snapshot.json"]


def _damage(path: Path, how: str) -> None:
    text = path.read_text()
    if how == "truncated":
        path.write_text(text[: len(text) // 2])
    elif how == "changed":
        path.write_text(text.replace("v1", "v2", 1))
    elif how == "other format":
        path.write_text(json.dumps(json.loads(text) | {"format": 99}))
    else:
        path.write_text({"empty": "", "a list": "[]", "binary": "\x00\x01"}[how])


@pytest.mark.parametrize("how", ["truncated", "changed", "other format", "empty", "a list", "binary"])
def test_damaged_snapshot_is_refused(tmp_path: Path, how: str) -> None:
    path = tmp_path / "snapshot.json"
    save_snapshot(path, Trending(NOON, [TrendingVideo(ranked=RankedVideo("v1", 2.5), tags=("a",))]))
    _damage(path, how)
    with pytest.raises(ValueError):  # noqa: PT011  # JSON's own error is one, too
        load_snapshot(path)


def test_missing_snapshot(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_snapshot(tmp_path / "none.json")
