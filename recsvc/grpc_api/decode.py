"""Converts protobuf requests to queries, and names every bad field."""

from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from recsvc.domain.interaction import Interaction
from recsvc.grpc_api.decode_interaction import check_timestamp, interactions, milliseconds
from recsvc.pages.page_token import DIGEST_BYTES
from recsvc.pages.recommender import FeedQuery
from recsvc.pages.similar_videos import SimilarQuery
from recsvc.ranking.filters import VideoFilter
from recsvc.wire_format import text, text_tag
from servicekit.grpc.request_checks import Checker
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

MAX_EXCLUDED: Final = 10_000
MAX_SCORED: Final = 10_000
MAX_BATCH: Final = 10_000
MAX_CONDITIONS: Final = 100
_FREE: Final = ("page_size", "page_token", "explain", "request_id")
"""Fields that may change from page to page."""
_DIGESTS: Final = {
    kind: blake2b(digest_size=DIGEST_BYTES, person=kind.__name__.encode()[:16])
    for kind in (pb.RecommendRequest, pb.ListSimilarVideosRequest)
}
"""To start from: they keep the digests of different methods apart."""
_USER: Final = text_tag(pb.RecommendRequest, "user_id")
_SURFACE: Final = text_tag(pb.RecommendRequest, "surface")


def decode_recommend(request: pb.RecommendRequest, *, now_ms: Callable[[], int]) -> FeedQuery:
    """Return the query of a Recommend request; INVALID_ARGUMENT names bad fields.

    Args:
        request: The request, which may be used up.
        now_ms: Tells when interactions without a timestamp happened, milliseconds since 1970 UTC.
    """
    checker = Checker()
    user_id, surface, request_id = request.user_id, request.surface, request.request_id
    checker.identifier(user_id, "user_id")
    page_size = checker.page_size(request.page_size)
    if surface:
        checker.identifier(surface, "surface")
    if request_id:
        checker.identifier(request_id, "request_id")
    excluded, told, diversity = request.exclude_video_ids, request.recent_interactions, request.diversity
    if not (excluded or told or diversity or request.include_seen or request.HasField("filter")):
        checker.finish()
        digest = _plain_digest(user_id, surface)
        return FeedQuery(user_id, page_size, digest, request.page_token, request.explain, surface, request_id)
    if excluded:
        checker.identifiers(excluded, "exclude_video_ids", most=MAX_EXCLUDED)
    if diversity:
        checker.require(0 <= diversity <= 1, "diversity", f"is {diversity}, must be from 0 to 1")
    recent = interactions(checker, told, "recent_interactions", now_ms=now_ms()) if told else ()
    video_filter = _video_filter(checker, request.filter, "filter") if request.HasField("filter") else None
    checker.finish()
    return FeedQuery(
        user_id=user_id,
        page_size=page_size,
        page_token=request.page_token,
        video_filter=video_filter,
        exclude_video_ids=excluded,
        include_seen=request.include_seen,
        recent=tuple(recent),
        diversity=diversity,
        explain=request.explain,
        surface=surface,
        request_id=request_id,
        digest=_digest(request, *_FREE),
    )


def similar_query(request: pb.ListSimilarVideosRequest) -> SimilarQuery:
    """Return the query of a ListSimilarVideos request; INVALID_ARGUMENT names bad fields."""
    checker = Checker()
    checker.identifier(request.video_id, "video_id")
    page_size = checker.page_size(request.page_size)
    video_filter = _video_filter(checker, request.filter, "filter") if request.HasField("filter") else None
    checker.finish()
    return SimilarQuery(
        video_id=request.video_id,
        page_size=page_size,
        page_token=request.page_token,
        video_filter=video_filter,
        digest=_digest(request, "page_size", "page_token"),
    )


def check_score_request(request: pb.ScoreVideosRequest) -> None:
    """Raise INVALID_ARGUMENT for bad fields of a ScoreVideos request."""
    checker = Checker()
    checker.identifier(request.user_id, "user_id")
    checker.require(bool(request.video_ids), "video_ids", "must not be empty")
    checker.identifiers(request.video_ids, "video_ids", most=MAX_SCORED)
    checker.finish()


def check_batch_size(request: pb.BatchRecommendRequest) -> None:
    """Raise INVALID_ARGUMENT for a batch that is empty or too large."""
    checker = Checker()
    count = len(request.requests)
    checker.require(1 <= count <= MAX_BATCH, "requests", f"has {count} entries, 1 to {MAX_BATCH} are allowed")
    checker.finish()


def checked_user_id(user_id: str) -> str:
    """Return a user's identifier; INVALID_ARGUMENT if the text is none."""
    checker = Checker()
    checker.identifier(user_id, "user_id")
    checker.finish()
    return user_id


def decode_profile_update(request: pb.UpdateUserProfileRequest, *, now_ms: int) -> list[Interaction]:
    """Return the interactions to fold in; INVALID_ARGUMENT names bad fields."""
    checker = Checker()
    checker.identifier(request.user_id, "user_id")
    checker.require(bool(request.interactions), "interactions", "must not be empty")
    found = interactions(checker, request.interactions, "interactions", now_ms=now_ms)
    checker.finish()
    return found


def _digest(request: pb.RecommendRequest | pb.ListSimilarVideosRequest, *free: str) -> bytes:
    """Return a digest of the fields that may not change from page to page; clears all other fields of the request.

    What this release does not know is not among them: it has no part in a page.
    """
    request.DiscardUnknownFields()
    for name in free:
        request.ClearField(name)  # type: ignore[arg-type]  # fields of the message
    digest = _DIGESTS[type(request)].copy()
    digest.update(request.SerializeToString(deterministic=True))
    return digest.digest()


def _plain_digest(user_id: str, surface: str) -> bytes:
    """Return the digest of a request whose other fields are all free, as `_digest` does, without a message copy."""
    digest = _DIGESTS[pb.RecommendRequest].copy()
    digest.update(text(_USER, user_id))
    if surface:
        digest.update(text(_SURFACE, surface))
    return digest.digest()


def _video_filter(checker: Checker, message: pb.VideoFilter, path: str) -> VideoFilter:
    lists = {
        name: tuple(getattr(message, name)) for name in ("any_tags", "none_tags", "any_author_ids", "none_author_ids")
    }
    for name, values in lists.items():
        checker.identifiers(values, f"{path}.{name}", most=MAX_CONDITIONS)
    low = message.min_duration_ms if message.HasField("min_duration_ms") else None
    high = message.max_duration_ms if message.HasField("max_duration_ms") else None
    for name, value in (("min_duration_ms", low), ("max_duration_ms", high)):
        checker.require(value is None or value >= 0, f"{path}.{name}", f"is {value}, must not be negative")
    if low is not None and high is not None:
        checker.require(low <= high, f"{path}.min_duration_ms", f"is {low}, above max_duration_ms, which is {high}")
    after = message.published_after if message.HasField("published_after") else None
    if after is not None:
        check_timestamp(checker, after, f"{path}.published_after")
    return VideoFilter(
        **lists,
        min_duration_ms=low,
        max_duration_ms=high,
        published_after_ms=None if after is None else milliseconds(after),
    )
