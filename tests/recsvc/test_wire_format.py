"""Replies put together from bytes are the messages that protobuf would have made."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.id_map import IdMap
from recsvc.domain.user import UserState
from recsvc.grpc_api import encode
from recsvc.model.serving_model import ServingModel
from recsvc.pages.recommender import Page
from recsvc.ranking.exact import Ranked
from recsvc.wire_format import heads_of
from tests.recsvc.support.models import random_model
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

SERVING = ServingModel.of(random_model(version="20250902-1"))
IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)


@given(
    videos=st.lists(st.tuples(IDS, st.floats(width=32)), max_size=30, unique_by=lambda one: one[0]),
    token=st.text("aZ09-_", max_size=300),
    state=st.sampled_from([*UserState]),
)
def test_a_reply_is_its_message(videos: list[tuple[str, float]], token: str, state: UserState) -> None:
    """Whatever the identifiers, scores, token and state: no number of either is special, not even NaN or -0."""
    model = SERVING.model
    named = IdMap.build([*model.videos.ids(np.arange(60)), *(name for name, _ in videos)])
    serving = replace(SERVING, heads=heads_of(named), model=replace(model, videos=named))
    ranked = Ranked(named.rows([name for name, _ in videos]), np.array([score for _, score in videos], np.float32))
    page = Page(serving, ranked, state, token)

    found = pb.RecommendResponse.FromString(encode.recommend_reply(page))

    expected = encode.recommend_response(page)
    assert found.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)
    assert [one.video_id for one in found.videos] == [name for name, _ in videos]


@pytest.mark.parametrize("length", [1, 115, 116, 117, 118, 127, 128, 300])
def test_identifiers_of_any_length_fit(length: int) -> None:
    """Where a length takes a second byte."""
    videos = IdMap.build(["x" * length])
    (head,) = heads_of(videos).tolist()

    reply = pb.RecommendResponse.FromString(head + np.array([0.5]).tobytes())

    assert [(one.video_id, one.score) for one in reply.videos] == [("x" * length, 0.5)]
