"""Converts feed messages to values and back, and names every bad field of a request."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from bridge.domain.page import EVERYTHING, FallbackReason, PageRequest, RankedVideo, ServedBy, ServedPage, VideoFilter
from bridge.feed.page_token import InvalidPageTokenError, PageToken, PageTokens, request_digest
from servicekit.grpc.errors import Violation, invalid_argument
from servicekit.grpc.request_checks import Checker
from videowindow.feed.v1 import feed_pb2 as pb

MAX_CONDITIONS: Final = 100
FIRST_SECOND: Final = -62_135_596_800
LAST_SECOND: Final = 253_402_300_799
"""The years 1 to 9999, as `google.protobuf.Timestamp` defines them."""

COUNTRY: Final = re.compile(r"[A-Z]{2}")
_SERVED_BY: Final = {one: pb.ServedBy.Value(f"SERVED_BY_{one.name}") for one in ServedBy}
_FALLBACK: Final = {one: pb.FallbackReason.Value(f"FALLBACK_REASON_{one.name}") for one in FallbackReason}


def decode_recommendations(message: pb.GetRecommendationsRequest, user: str | None, tokens: PageTokens) -> PageRequest:
    """Return the request for recommendations; its user is None if anonymous; INVALID_ARGUMENT names each bad field."""
    checker = Checker()
    if user is not None:
        checker.identifier(user, "user_id")
    user_id = user or ""
    page_size = checker.page_size(message.page_size)
    for name in ("surface", "feed_session_id", "experiment_variant_id", "request_id"):
        value: str = getattr(message, name)
        if value:
            checker.identifier(value, name)
    video_filter = _decode_filter(message.filter, checker) if message.HasField("filter") else EVERYTHING
    country = _decode_country(message, checker) if message.HasField("context") else ""
    checker.finish()
    variant = message.experiment_variant_id
    digest = request_digest("recommendations", user_id, message.surface, variant, video_filter)
    token = _decode_token(tokens, message.page_token, digest, message.feed_session_id)
    return PageRequest(
        user_id=user_id,
        page_size=page_size,
        surface=message.surface,
        filter=video_filter,
        feed_session_id=token.feed_session_id,
        experiment_variant_id=variant,
        request_id=message.request_id,
        digest=digest,
        number=token.page,
        served=token.served,
        country=country,
    )


def decode_trending(message: pb.GetTrendingRequest, tokens: PageTokens) -> PageRequest:
    """Return the request for trending; INVALID_ARGUMENT names each bad field."""
    checker = Checker()
    page_size = checker.page_size(message.page_size)
    if message.surface:
        checker.identifier(message.surface, "surface")
    video_filter = _decode_filter(message.filter, checker) if message.HasField("filter") else EVERYTHING
    country = _decode_country(message, checker) if message.HasField("context") else ""
    checker.finish()
    digest = request_digest("trending", "", message.surface, "", video_filter)
    token = _decode_token(tokens, message.page_token, digest, "")
    return PageRequest(
        page_size=page_size,
        surface=message.surface,
        filter=video_filter,
        digest=digest,
        number=token.page,
        served=token.served,
        country=country,
    )


def encode_page(served: ServedPage, token: str, hidden_as_of: datetime | None) -> pb.GetRecommendationsResponse:
    """Return the reply, with the age of the hidden set where no source is reached."""
    page = served.page
    reply = pb.GetRecommendationsResponse(
        next_page_token=token,
        algorithm=page.algorithm,
        served_by=_SERVED_BY[page.served_by],
        fallback_reason=_FALLBACK[page.fallback_reason] if page.fallback_reason else pb.FALLBACK_REASON_UNSPECIFIED,
        model_version=page.model_version,
        feed_session_id=served.feed_session_id,
        experiment_variant_id=served.variant_id,
        attempts=page.attempts,
    )
    if hidden_as_of is not None:
        reply.hidden_as_of.FromDatetime(hidden_as_of)
    _add_videos(reply, page.videos)
    return reply


def encode_trending(
    videos: Sequence[RankedVideo], token: str, computed_at: datetime, hidden_as_of: datetime | None
) -> pb.GetTrendingResponse:
    """Return the reply, with the age of the hidden set where no source is reached."""
    reply = pb.GetTrendingResponse(next_page_token=token)
    reply.computed_at.FromDatetime(computed_at)
    if hidden_as_of is not None:
        reply.hidden_as_of.FromDatetime(hidden_as_of)
    _add_videos(reply, videos)
    return reply


def _add_videos(reply: pb.GetRecommendationsResponse | pb.GetTrendingResponse, videos: Sequence[RankedVideo]) -> None:
    add = reply.videos.add  # half the time of messages that are made first and copied then
    for video_id, score in videos:
        add(video_id=video_id, score=score)


def check_timestamp(value: Timestamp, checker: Checker, path: str) -> bool:
    """Return whether a timestamp is in the range of `google.protobuf.Timestamp`; report it when not."""
    valid = FIRST_SECOND <= value.seconds <= LAST_SECOND and 0 <= value.nanos < 10**9
    checker.require(valid, path, "is not a valid timestamp of the years 1 to 9999")
    return valid


def _decode_country(message: pb.GetRecommendationsRequest | pb.GetTrendingRequest, checker: Checker) -> str:
    country = message.context.country
    if country and not COUNTRY.fullmatch(country):
        checker.report("context.country", "is no ISO 3166-1 alpha-2 code such as DE")
    return country


def _decode_token(tokens: PageTokens, text: str, digest: bytes, session_id: str) -> PageToken:
    if not text:
        return PageToken(feed_session_id=session_id, request=digest, page=1, served=())
    try:
        token = tokens.decode(text)
    except InvalidPageTokenError as error:
        raise invalid_argument(Violation("page_token", str(error))) from None
    if token.request != digest or session_id not in ("", token.feed_session_id):
        raise invalid_argument(Violation("page_token", "belongs to another request"))
    return token


def _decode_filter(message: pb.VideoFilter, checker: Checker) -> VideoFilter:
    decoded = VideoFilter(
        any_tags=tuple(message.any_tags),
        none_tags=tuple(message.none_tags),
        any_author_ids=tuple(message.any_author_ids),
        none_author_ids=tuple(message.none_author_ids),
        min_duration_ms=message.min_duration_ms if message.HasField("min_duration_ms") else None,
        max_duration_ms=message.max_duration_ms if message.HasField("max_duration_ms") else None,
        published_after_ns=_nanoseconds(message.published_after) if message.HasField("published_after") else None,
    )
    for name in ("any_tags", "none_tags", "any_author_ids", "none_author_ids"):
        checker.identifiers(getattr(decoded, name), f"filter.{name}", most=MAX_CONDITIONS)
    _check_durations(decoded, checker)
    if message.HasField("published_after"):
        check_timestamp(message.published_after, checker, "filter.published_after")
    return decoded


def _check_durations(decoded: VideoFilter, checker: Checker) -> None:
    for name in ("min_duration_ms", "max_duration_ms"):
        value: int | None = getattr(decoded, name)
        checker.require(value is None or value >= 0, f"filter.{name}", f"is {value}, must not be negative")
    shortest, longest = decoded.min_duration_ms or 0, decoded.max_duration_ms
    ordered = longest is None or shortest <= longest
    checker.require(ordered, "filter.min_duration_ms", "must not be above max_duration_ms")


def _nanoseconds(value: Timestamp) -> int:
    return value.seconds * 10**9 + value.nanos
