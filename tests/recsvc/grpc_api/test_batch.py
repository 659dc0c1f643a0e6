"""Many users at once get what each would get alone."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsvc.domain.interaction import Interaction, InteractionType
from recsvc.domain.user import COLD, User, UserState
from recsvc.grpc_api import encode
from recsvc.model.live_model import LiveModel
from recsvc.model.serving_model import ServingModel
from recsvc.pages.recommender import MAX_TOGETHER, FeedQuery, Page, Recommender
from recsvc.ranking.exact import ExactRanker, Exclusions, RankingQuery
from recsvc.ranking.filters import VideoFilter
from servicekit.grpc.errors import ServiceError
from tests.recsvc.support.directories import CUT_OFF_MS, directory
from tests.recsvc.support.models import random_model

MODEL = random_model(7)


def rough(seed: int) -> ServingModel:
    """Return a model whose scores do not add up without rounding."""
    rng = np.random.default_rng(seed)
    factors = {
        name: (getattr(MODEL, name) + rng.normal(0, 0.3, getattr(MODEL, name).shape)).astype(np.float32)
        for name in ("user_factors", "video_factors", "video_biases")
    }
    return ServingModel.of(replace(MODEL, **factors))


MODELS = [ServingModel.of(MODEL), rough(1)]
VIDEOS = st.lists(st.sampled_from([f"v{index}" for index in range(62)]), max_size=20)
FILTERS = st.none() | st.sampled_from([VideoFilter(none_tags=("t1",)), VideoFilter(any_author_ids=("a1", "a2"))])
RECENT = st.lists(
    st.builds(
        Interaction,
        st.sampled_from(["v1", "v7", "v30", "x"]),
        st.sampled_from([*InteractionType]),
        st.just(CUT_OFF_MS),
        st.just(99),
    ),
    max_size=4,
)
QUERIES = st.builds(
    FeedQuery,
    user_id=st.sampled_from(["u0", "u1", "u7", "nobody"]),
    page_size=st.integers(1, 61),
    digest=st.just(b"requests"),
    page_token=st.sampled_from(["", "", "", "damaged"]),
    video_filter=FILTERS,
    exclude_video_ids=VIDEOS,
    include_seen=st.booleans(),
    recent=RECENT.map(tuple),
    diversity=st.sampled_from([0.0, 0.0, 0.5]),
    explain=st.booleans(),
)


def told(outcome: Page | ServiceError) -> bytes | str:
    """Return what the caller is told, to the last bit."""
    return encode.recommend_reply(outcome) if isinstance(outcome, Page) else str(outcome)


def alone(recommender: Recommender, query: FeedQuery) -> bytes | str:
    try:
        return told(recommender.recommend(query))
    except ServiceError as error:
        return told(error)


def recommender_of(serving: ServingModel) -> Recommender:
    live = LiveModel(retry_after_s=1)
    live.swap(serving)
    return Recommender(live, directory())


@given(st.sampled_from(MODELS), st.lists(QUERIES, max_size=12))
def test_a_batch_equals_single_calls(serving: ServingModel, queries: list[FeedQuery]) -> None:
    """To the last bit of each score; what fails, fails alone."""
    recommender = recommender_of(serving)

    together = [told(one) for one in recommender.recommend_many(queries)]

    assert together == [alone(recommender, query) for query in queries]


def test_a_batch_of_nothing_but_errors() -> None:
    query = FeedQuery(user_id="u", page_size=1, digest=bytes(8), page_token="damaged")  # noqa: S106  # no password

    assert [str(one) for one in recommender_of(MODELS[0]).recommend_many([query])] == [
        alone(recommender_of(MODELS[0]), query)
    ]


def test_a_batch_larger_than_one_product_keeps_its_order() -> None:
    recommender = recommender_of(MODELS[1])
    queries = [
        FeedQuery(user_id=f"u{index % 12}", page_size=1 + index % 7, digest=bytes(8))
        for index in range(2 * MAX_TOGETHER + 3)
    ]

    assert [told(one) for one in recommender.recommend_many(queries)] == [alone(recommender, one) for one in queries]


def test_however_a_shared_product_rounds_the_pages_are_the_same() -> None:
    """With 64 dimensions and thousands of videos, as in production; duplicates of videos give equal scores."""
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(3000, 64)).astype(np.float32)
    factors[1500:] = factors[:1500]
    ranker = ExactRanker(factors, np.zeros(3000, np.float32))
    users = [
        User(state=UserState.TRAINED, vector=row, bias=0.5, seen=np.empty(0, np.int32))
        for row in rng.normal(size=(40, 64)).astype(np.float32)
    ]

    together = ranker.top_many([RankingQuery(user, 21) for user in [*users, COLD]])

    for user, ranked in zip([*users, COLD], together, strict=True):
        single = ranker.top(user, 21, Exclusions())
        assert ranked.rows.tolist() == single.rows.tolist()
        assert ranked.scores.tolist() == single.scores.tolist() == ranker.scores_of(user, ranked.rows).tolist()
        pairs = list(zip(ranked.scores.tolist(), ranked.rows.tolist(), strict=True))
        assert pairs == sorted(pairs, key=lambda pair: (-pair[0], pair[1]))
