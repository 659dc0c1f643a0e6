"""From protobuf requests to queries, with every bad field named."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Final

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from recsvc.filters import VideoFilter
from recsvc.page_token import DIGEST_BYTES
from recsvc.recommender import FeedQuery
from servicekit.errors import ServiceError, Violation
from servicekit.validation import Checker
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

MAX_EXCLUDED: Final = 10_000
MAX_RECENT: Final = 1_000
MAX_CONDITIONS: Final = 100
MAX_RATING: Final = 5.0
_FREE: Final = ("page_size", "page_token", "explain", "request_id")
"""Fields that may change from page to page."""
_FIRST_SECOND: Final = int(datetime(1, 1, 1, tzinfo=UTC).timestamp())
_LAST_SECOND: Final = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())


def feed_query(request: pb.RecommendRequest) -> FeedQuery:
    """Return the query; INVALID_ARGUMENT for bad fields, UNIMPLEMENTED for those that would not be honoured."""
    checker = Checker()
    checker.identifier(request.user_id, "user_id")
    page_size = checker.page_size(request.page_size)
    _check_label(checker, request.surface, "surface")
    _check_label(checker, request.request_id, "request_id")
    checker.identifiers(request.exclude_video_ids, "exclude_video_ids", most=MAX_EXCLUDED)
    checker.require(0 <= request.diversity <= 1, "diversity", f"is {request.diversity}, must be from 0 to 1")
    _check_interactions(checker, request.recent_interactions, "recent_interactions")
    video_filter = _video_filter(checker, request.filter, "filter") if request.HasField("filter") else None
    checker.finish()
    _refuse_unsupported(request)
    return FeedQuery(
        user_id=request.user_id,
        page_size=page_size,
        digest=_digest(request),
        page_token=request.page_token,
        video_filter=video_filter,
        exclude_video_ids=request.exclude_video_ids,
        include_seen=request.include_seen,
    )


def _digest(request: pb.RecommendRequest) -> bytes:
    bound = pb.RecommendRequest()
    bound.CopyFrom(request)
    for name in _FREE:
        bound.ClearField(name)
    return blake2b(bound.SerializeToString(deterministic=True), digest_size=DIGEST_BYTES, person=b"Recommend").digest()


def _refuse_unsupported(request: pb.RecommendRequest) -> None:
    """Say so rather than let anybody believe that a field was honoured."""
    asked = {
        "diversity": request.diversity > 0,
        "explain": request.explain,
        "recent_interactions": bool(request.recent_interactions),
    }
    names = [name for name, is_asked in asked.items() if is_asked]
    if names:
        raise ServiceError(
            grpc.StatusCode.UNIMPLEMENTED,
            "FIELD_UNIMPLEMENTED",
            f"this server does not offer {', '.join(names)}; leave unset",
            violations=[Violation(name, "is not offered by this server") for name in names],
        )


def _check_label(checker: Checker, value: str, path: str) -> None:
    if value:
        checker.identifier(value, path)


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
        _check_timestamp(checker, after, f"{path}.published_after")
    return VideoFilter(
        **lists,
        min_duration_ms=low,
        max_duration_ms=high,
        published_after_ms=None if after is None else after.seconds * 1000 + after.nanos // 1_000_000,
    )


def _check_interactions(checker: Checker, interactions: Iterable[pb.Interaction], path: str) -> None:
    checked = list(interactions)
    checker.require(len(checked) <= MAX_RECENT, path, f"has {len(checked)} entries, at most {MAX_RECENT} are allowed")
    for index, one in enumerate(checked[:MAX_RECENT]):
        _check_interaction(checker, one, f"{path}[{index}]")


def _check_interaction(checker: Checker, one: pb.Interaction, path: str) -> None:
    checker.identifier(one.video_id, f"{path}.video_id")
    known = one.interaction_type in pb.InteractionType.values() and one.interaction_type != 0
    checker.require(known, f"{path}.interaction_type", f"is {one.interaction_type}, which names no type")
    checker.require(one.watch_time >= 0, f"{path}.watch_time", f"is {one.watch_time}, must not be negative")
    if one.HasField("timestamp"):
        _check_timestamp(checker, one.timestamp, f"{path}.timestamp")
    if one.HasField("rating"):
        valid = math.isfinite(one.rating) and 0 <= one.rating <= MAX_RATING
        checker.require(valid, f"{path}.rating", f"is {one.rating}, must be from 0 to {MAX_RATING:g}")


def _check_timestamp(checker: Checker, value: Timestamp, path: str) -> None:
    """Report a timestamp outside of the range that `google.protobuf.Timestamp` defines, years 1 to 9999."""
    valid = _FIRST_SECOND <= value.seconds <= _LAST_SECOND and 0 <= value.nanos < 1_000_000_000
    checker.require(valid, path, "is not a valid timestamp of the years 1 to 9999")
