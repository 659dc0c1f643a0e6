"""Requests become queries."""

from hashlib import blake2b

from hypothesis import example, given
from hypothesis import strategies as st

from recsvc.grpc_api.decode import decode_recommend
from servicekit.inputs.identifiers import identifier_problem
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


LONGEST = "x" * 128
"""Its length takes two bytes."""
UNKNOWN_FIELD = b"\xfa\x01\x01?"
"""Field 31, of a later release."""


@given(REQUESTS)
@example(pb.RecommendRequest(user_id=LONGEST, surface=LONGEST))
@example(pb.RecommendRequest.FromString(pb.RecommendRequest(user_id="u").SerializeToString() + UNKNOWN_FIELD))
def test_the_digest_is_that_of_the_message_without_what_may_change(request: pb.RecommendRequest) -> None:
    """Tokens carry it, and outlive a release; most requests' is not made from a message."""
    asked = pb.RecommendRequest.FromString(request.SerializeToString())

    query = decode_recommend(request, now_ms=lambda: 0)

    fixed = pb.RecommendRequest(user_id=asked.user_id, surface=asked.surface).SerializeToString(deterministic=True)
    assert query.digest == blake2b(fixed, digest_size=8, person=b"RecommendRequest").digest()
    assert (query.user_id, query.surface, query.request_id) == (asked.user_id, asked.surface, asked.request_id)
    assert (query.page_token, query.page_size, query.explain) == (
        asked.page_token,
        asked.page_size or 20,
        asked.explain,
    )


def test_a_request_of_a_later_release_has_the_digest_of_what_is_known() -> None:
    """With and without something special: else its token would be refused where another release answers."""
    for request in (pb.RecommendRequest(user_id="u"), pb.RecommendRequest(user_id="u", include_seen=True)):
        later = pb.RecommendRequest.FromString(request.SerializeToString() + UNKNOWN_FIELD)

        assert decode_recommend(later, now_ms=lambda: 0).digest == decode_recommend(request, now_ms=lambda: 0).digest


def test_every_field_of_a_request_has_its_part_in_the_digest_or_is_free() -> None:
    """Whoever adds one must decide which: a plain request's digest names its fields one by one."""
    free = {"page_size", "page_token", "explain", "request_id"}
    plain = {"user_id", "surface"}
    special = {"filter", "exclude_video_ids", "include_seen", "diversity", "recent_interactions"}
    assert {field.name for field in pb.RecommendRequest.DESCRIPTOR.fields} == free | plain | special
