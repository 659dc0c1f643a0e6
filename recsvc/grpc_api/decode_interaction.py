"""Converts protobuf interactions to the domain's, and names every bad field."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from recsvc.domain.interaction import MAX_RATING, Interaction, InteractionType
from servicekit.grpc.request_checks import Checker
from servicekit.inputs.numbers import finite
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

MAX_INTERACTIONS: Final = 1_000
_FIRST_SECOND: Final = int(datetime(1, 1, 1, tzinfo=UTC).timestamp())
_LAST_SECOND: Final = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())
_KINDS: Final = {pb.InteractionType.Value(f"INTERACTION_TYPE_{kind.name}"): kind for kind in InteractionType}


def interactions(checker: Checker, messages: Sequence[pb.Interaction], path: str, *, now_ms: int) -> list[Interaction]:
    """Return the interactions in order; report bad fields to the checker, and leave their interactions out."""
    checker.require(
        len(messages) <= MAX_INTERACTIONS, path, f"has {len(messages)} entries, at most {MAX_INTERACTIONS} are allowed"
    )
    checked = (
        _interaction(checker, one, f"{path}[{index}]", now_ms) for index, one in enumerate(messages[:MAX_INTERACTIONS])
    )
    return [one for one in checked if one is not None]


def _interaction(checker: Checker, one: pb.Interaction, path: str, now_ms: int) -> Interaction | None:
    before = len(checker.violations)
    checker.identifier(one.video_id, f"{path}.video_id")
    kind = _KINDS.get(one.interaction_type)
    checker.require(kind is not None, f"{path}.interaction_type", f"is {one.interaction_type}, which names no type")
    checker.require(one.watch_time >= 0, f"{path}.watch_time", f"is {one.watch_time}, must not be negative")
    if one.HasField("timestamp"):
        check_timestamp(checker, one.timestamp, f"{path}.timestamp")
    if one.HasField("rating"):
        valid = math.isfinite(one.rating) and 0 <= one.rating <= MAX_RATING
        checker.require(valid, f"{path}.rating", f"is {one.rating}, must be from 0 to {MAX_RATING:g}")
    if kind is None or len(checker.violations) > before:
        return None
    at_ms = milliseconds(one.timestamp) if one.HasField("timestamp") else now_ms
    stars = finite(one.rating) if one.HasField("rating") else None  # the same wherever it is read once more
    return Interaction(one.video_id, kind, at_ms, one.watch_time, stars)


def check_timestamp(checker: Checker, value: Timestamp, path: str) -> None:
    """Report a timestamp outside of the range of `google.protobuf.Timestamp`, years 1 to 9999."""
    valid = _FIRST_SECOND <= value.seconds <= _LAST_SECOND and 0 <= value.nanos < 1_000_000_000
    checker.require(valid, path, "is not a valid timestamp of the years 1 to 9999")


def milliseconds(value: Timestamp) -> int:
    """Return a timestamp as milliseconds since 1970 UTC, rounded down."""
    return value.seconds * 1000 + value.nanos // 1_000_000
