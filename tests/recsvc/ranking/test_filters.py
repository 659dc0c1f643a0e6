import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.artefact import Catalogue
from recsvc.ranking.filters import FilterMasks, VideoFilter
from tests.recsvc.support.models import MS, random_catalogue

VIDEOS = 80
CATALOGUE = random_catalogue(np.random.default_rng(5), VIDEOS)

names = st.sampled_from(["t0", "t1", "t4", "unknown"])
authors = st.sampled_from(["a0", "a3", "a6", "unknown"])
FILTERS = st.builds(
    VideoFilter,
    any_tags=st.lists(names, max_size=3).map(tuple),
    none_tags=st.lists(names, max_size=3).map(tuple),
    any_author_ids=st.lists(authors, max_size=3).map(tuple),
    none_author_ids=st.lists(authors, max_size=3).map(tuple),
    min_duration_ms=st.none() | st.integers(0, 60_000),
    max_duration_ms=st.none() | st.integers(0, 60_000),
    published_after_ms=st.none() | st.integers(MS - 1, MS + 1000) | st.just(-62_135_596_800_000),
)


def passes(catalogue: Catalogue, row: int, condition: VideoFilter) -> bool:
    """Return whether the filter lets one video through, condition by condition."""
    tags = set(catalogue.tags.ids(catalogue.tag_rows[row]))
    author_row = catalogue.author_rows[row]
    author = None if author_row < 0 else catalogue.authors.ids(np.array([author_row]))[0]
    duration, published = int(catalogue.durations_ms[row]), int(catalogue.published_at_ms[row])
    low, high, after = condition.min_duration_ms, condition.max_duration_ms, condition.published_after_ms
    return all(
        (
            not condition.any_tags or bool(tags & set(condition.any_tags)),
            not tags & set(condition.none_tags),
            not condition.any_author_ids or author in condition.any_author_ids,
            author not in condition.none_author_ids,
            low is None or (duration >= 0 and duration >= low),
            high is None or (duration >= 0 and duration <= high),
            after is None or (published >= 0 and published > after),
        )
    )


@given(FILTERS)
def test_filters_never_leak_and_never_drop_more_than_asked(condition: VideoFilter) -> None:
    blocked = FilterMasks(CATALOGUE).blocked(condition)

    assert blocked.tolist() == [not passes(CATALOGUE, row, condition) for row in range(VIDEOS)]


@pytest.mark.parametrize(
    "condition",
    [
        VideoFilter(min_duration_ms=0),
        VideoFilter(max_duration_ms=10**12),
        VideoFilter(published_after_ms=0),
        VideoFilter(published_after_ms=-5),
    ],
)
def test_an_unknown_value_fails_even_the_widest_condition(condition: VideoFilter) -> None:
    unknown = CATALOGUE.durations_ms < 0 if condition.published_after_ms is None else CATALOGUE.published_at_ms < 0

    assert unknown.any()
    np.testing.assert_array_equal(FilterMasks(CATALOGUE).blocked(condition), unknown)


def test_a_filter_without_conditions_lets_everything_through() -> None:
    assert not FilterMasks(CATALOGUE).blocked(VideoFilter()).any()


def test_masks_of_recent_filters_are_kept_and_cannot_be_changed() -> None:
    masks = FilterMasks(CATALOGUE)
    first = masks.blocked(VideoFilter(any_tags=("t1",)))

    assert masks.blocked(VideoFilter(any_tags=("t1",))) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = True


def test_kept_masks_stay_within_their_memory() -> None:
    masks = FilterMasks(CATALOGUE)
    first = masks.blocked(VideoFilter(min_duration_ms=0))
    for bound in range(1, 1025):
        masks.blocked(VideoFilter(min_duration_ms=bound))

    assert masks.blocked(VideoFilter(min_duration_ms=0)) is not first
