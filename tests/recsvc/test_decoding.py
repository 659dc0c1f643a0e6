"""Requests become queries."""

from hashlib import blake2b

from hypothesis import given
from hypothesis import strategies as st

from recsvc.decoding import feed_query
from servicekit.validation import identifier_problem
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

IDS = st.text(max_size=128).filter(lambda one: not identifier_problem(one))


REQUESTS = st.builds(
    pb.RecommendRequest,
    user_id=IDS,
    surface=st.just("") | IDS,
    request_id=st.just("") | IDS,
    page_token=st.text(max_size=9),
    page_size=st.integers(0, 9),
    explain=st.booleans(),
)


@given(REQUESTS)
def test_the_digest_is_that_of_the_message_without_what_may_change(request: pb.RecommendRequest) -> None:
    """Tokens carry it, and outlive a release; most requests' is not made from a message."""
    asked = pb.RecommendRequest.FromString(request.SerializeToString())

    query = feed_query(request, now_ms=lambda: 0)

    fixed = pb.RecommendRequest(user_id=asked.user_id, surface=asked.surface).SerializeToString(deterministic=True)
    assert query.digest == blake2b(fixed, digest_size=8, person=b"RecommendRequest").digest()
    assert (query.user_id, query.surface, query.request_id) == (asked.user_id, asked.surface, asked.request_id)
    assert (query.page_token, query.page_size, query.explain) == (
        asked.page_token,
        asked.page_size or 20,
        asked.explain,
    )
