from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsvc.domain.user import UserState
from recsvc.model.live_model import LiveModel
from recsvc.model.serving_model import ServingModel
from recsvc.pages.page_token import MAX_POSITION
from recsvc.pages.recommender import FeedQuery, Page, Recommender
from recsvc.ranking.filters import VideoFilter
from servicekit.grpc.errors import ServiceError
from tests.recsvc.support.directories import directory
from tests.recsvc.support.models import brute_force, random_model, with_scores

DIGEST = b"requests"
MODELS = [ServingModel.of(random_model(seed, version=f"v{seed}", first=seed * 5)) for seed in range(4)]


def serving(*models: ServingModel) -> LiveModel:
    live = LiveModel(retry_after_s=1)
    for model in models:
        live.swap(model)
    return live


def query(user_id: str = "u1", page_size: int = 7, **changes: Any) -> FeedQuery:
    return FeedQuery(user_id=user_id, page_size=page_size, digest=DIGEST, **changes)


def feed(live: LiveModel, first: FeedQuery, swaps: "dict[int, ServingModel] | None" = None) -> list[Page]:
    """Return all pages of a feed; before the page of each index in `swaps`, that model goes live."""
    recommender, pages, current = Recommender(live, directory()), list[Page](), first
    while True:
        if swaps and len(pages) in swaps:
            live.swap(swaps[len(pages)])
        page = recommender.recommend(current)
        pages.append(page)
        if not page.next_page_token:
            return pages
        current = first._replace(page_token=page.next_page_token)


def ids(pages: list[Page]) -> list[str]:
    return [video_id for page in pages for video_id in page.video_ids]


def test_without_a_model_callers_are_told_when_to_come_back() -> None:
    with pytest.raises(ServiceError) as caught:
        Recommender(LiveModel(retry_after_s=2.5), directory()).recommend(query())
    assert (caught.value.reason, caught.value.retry_after_s) == ("NO_MODEL", 2.5)


@pytest.mark.parametrize("user_id", ["u0", "u11", "nobody"])
@pytest.mark.parametrize("include_seen", [False, True])
def test_a_feed_equals_brute_force(user_id: str, include_seen: bool) -> None:  # noqa: FBT001  # a case
    model = MODELS[0].model
    scores, bias = brute_force(model, user_id)
    row = model.users.row(user_id)
    seen = set() if include_seen or row < 0 else set(model.seen[row].tolist())
    expected = sorted((row for row in range(60) if row not in seen), key=lambda row: (-scores[row], row))

    pages = feed(serving(MODELS[0]), query(user_id, include_seen=include_seen))

    assert ids(pages) == model.videos.ids(np.array(expected))
    actual = [score for page in pages for score in page.scores]
    np.testing.assert_allclose(actual, scores[expected] + bias, rtol=1e-5, atol=1e-6)
    assert {page.user_state for page in pages} == {UserState.COLD if row < 0 else UserState.TRAINED}


QUERIES = st.builds(
    query,
    st.sampled_from(["u0", "u5", "nobody"]),
    st.integers(1, 25),
    exclude_video_ids=st.lists(st.integers(0, 80).map(lambda index: f"v{index}"), max_size=30),
    video_filter=st.none() | st.just(VideoFilter(none_tags=("t1",), max_duration_ms=40_000)),
    include_seen=st.booleans(),
)


@settings(max_examples=60)
@given(QUERIES, st.dictionaries(st.integers(1, 9), st.sampled_from(MODELS), max_size=4))
def test_pages_never_repeat_nor_show_what_is_barred(first: FeedQuery, swaps: dict[int, ServingModel]) -> None:
    """Whatever the request, and whichever models go live between its pages."""
    pages = feed(serving(MODELS[0]), first, swaps)

    shown = ids(pages)
    assert len(shown) == len(set(shown))
    assert not set(shown) & set(first.exclude_video_ids)
    assert all(len(page.video_ids) == first.page_size for page in pages[:-1])
    for page in pages:
        model = next(one for one in MODELS if one.manifest.version == page.model_version)
        rows = model.model.videos.rows(page.video_ids)
        assert first.include_seen or not np.isin(rows, model.user(first.user_id).seen).any()
        assert first.video_filter is None or not model.masks.blocked(first.video_filter)[rows].any()


def test_the_same_question_has_the_same_answer_each_time() -> None:
    """Equal scores are broken by identifier, within a page and at its cut."""
    live = serving(ServingModel.of(with_scores([1, 2, 1, 2, 1, 2, 1] * 30)))

    pages = [Recommender(live, directory()).recommend(query("nobody", 50)) for _ in range(3)]

    assert pages[0].video_ids == pages[1].video_ids == pages[2].video_ids
    assert pages[0].video_ids == sorted(pages[0].video_ids)
    assert set(pages[0].scores) == {2.0}


def test_pages_of_another_size_go_on_where_the_last_one_ended() -> None:
    live = serving(MODELS[0])
    whole = ids(feed(live, query(page_size=60)))
    first = Recommender(live, directory()).recommend(query(page_size=5))

    second = Recommender(live, directory()).recommend(query(page_size=9, page_token=first.next_page_token))

    assert first.video_ids + second.video_ids == whole[:14]


@pytest.mark.parametrize("page_size", [50, 49, 51])
def test_the_last_page_says_so(page_size: int) -> None:
    """Also when the feed ends exactly with the page. u1 saw 10 of 60 videos."""
    pages = feed(serving(MODELS[0]), query(page_size=page_size))

    assert [len(page.video_ids) for page in pages] == ([page_size, 50 - page_size] if page_size < 50 else [50])


def test_a_filter_that_leaves_nothing_gives_an_empty_page() -> None:
    page = Recommender(serving(MODELS[0]), directory()).recommend(
        query(video_filter=VideoFilter(any_tags=("unknown",)))
    )

    assert (page.video_ids, page.scores, page.next_page_token) == ([], [], "")
    assert page.model_version == "v0"


def test_a_feed_ends_where_its_token_would_grow_too_long() -> None:
    live = serving(ServingModel.of(with_scores([float(index % 97) for index in range(MAX_POSITION + 300)])))

    pages = feed(live, query("nobody", 499))

    assert len(set(ids(pages))) == len(ids(pages)) == MAX_POSITION
    assert len(pages[-1].video_ids) == MAX_POSITION % 499


def test_a_token_of_another_request_is_refused() -> None:
    recommender = Recommender(serving(MODELS[0]), directory())
    page = recommender.recommend(query())

    with pytest.raises(ServiceError, match="another request"):
        recommender.recommend(query(page_token=page.next_page_token)._replace(digest=b"another!"))
