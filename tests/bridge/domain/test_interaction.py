"""The limits of an interaction, each at its edge."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.interaction import InteractionType
from bridge.ingest.protobuf import decode_interaction
from bridge.kafka.message import iso_milliseconds
from servicekit.grpc.errors import ServiceError
from videowindow.feed.v1 import interaction_pb2 as pb

NOW = datetime(2025, 11, 1, 12, 0, 0, 250_999, tzinfo=UTC)
UUID = "123e4567-e89b-12d3-a456-426614174000"


def _message(**fields: Any) -> pb.Interaction:
    defaults = {"event_id": UUID, "user_id": "u", "video_id": "v", "interaction_type": pb.INTERACTION_TYPE_WATCH}
    return pb.Interaction(**{**defaults, **fields})


def _at(**delta: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(NOW + timedelta(**delta))
    return stamp


def _context(**fields: Any) -> dict[str, pb.RecommendationContext]:
    return {"recommendation": pb.RecommendationContext(**fields)}


RATING = {"interaction_type": pb.INTERACTION_TYPE_RATING}
SEARCH = {"interaction_type": pb.INTERACTION_TYPE_SEARCH}

GOOD: list[dict[str, Any]] = [
    {},
    {"event_id": ""},
    {"event_id": UUID.upper()},
    {"user_id": "ü" * 64},
    {"watch_time": 86_400_000},
    {"timestamp": _at(minutes=5)},
    {"timestamp": _at(days=-7)},
    {**RATING, "rating": 0.0},
    {**RATING, "rating": 5.0},
    {**SEARCH, "search_query": "x" * 1024},
    {"metadata": {f"key{n}": "x" * 512 for n in range(32)}},
    {"metadata": {"k" * 64: ""}},
    _context(recommendation_score=-1e30),
    _context(feed_session_id="s" * 128),
]

BAD: list[tuple[dict[str, Any], str]] = [
    ({"event_id": "1"}, "event_id"),
    ({"event_id": f"{{{UUID}}}"}, "event_id"),
    ({"event_id": UUID.replace("-", "")}, "event_id"),
    ({"event_id": f"urn:uuid:{UUID}"}, "event_id"),
    ({"user_id": ""}, "user_id"),
    ({"user_id": "ü" * 65}, "user_id"),
    ({"video_id": "a\tb"}, "video_id"),
    ({"interaction_type": 0}, "interaction_type"),
    ({"interaction_type": 14}, "interaction_type"),
    ({"interaction_type": -1}, "interaction_type"),
    ({"watch_time": -1}, "watch_time"),
    ({"watch_time": 86_400_001}, "watch_time"),
    ({"watch_time": -(2**63)}, "watch_time"),
    ({"timestamp": _at(minutes=5, milliseconds=1)}, "timestamp"),
    ({"timestamp": _at(days=-7, milliseconds=-1)}, "timestamp"),
    ({"timestamp": Timestamp(seconds=2**62)}, "timestamp"),
    ({"timestamp": Timestamp(seconds=-(2**62))}, "timestamp"),
    ({"timestamp": Timestamp(nanos=2**30)}, "timestamp"),
    (RATING, "rating"),
    ({**RATING, "rating": 5.01}, "rating"),
    ({**RATING, "rating": -0.01}, "rating"),
    ({**RATING, "rating": float("nan")}, "rating"),
    ({"rating": 3.0}, "rating"),
    (SEARCH, "search_query"),
    ({**SEARCH, "search_query": "ü" * 513}, "search_query"),
    ({**SEARCH, "search_query": "a\0b"}, "search_query"),
    ({"search_query": "cats"}, "search_query"),
    ({"metadata": {f"key{n}": "" for n in range(33)}}, "metadata"),
    ({"metadata": {"k" * 65: ""}}, "metadata"),
    ({"metadata": {"": "x"}}, "metadata"),
    ({"metadata": {"k": "x" * 513}}, "metadata['k']"),
    ({"metadata": {"k": "\0"}}, "metadata['k']"),
    (_context(feed_session_id="s" * 129), "recommendation.feed_session_id"),
    (_context(algorithm="\n"), "recommendation.algorithm"),
    (_context(model_version="\x00"), "recommendation.model_version"),
    (_context(experiment_variant_id="v" * 200), "recommendation.experiment_variant_id"),
    (_context(recommendation_score=float("inf")), "recommendation.recommendation_score"),
]


@pytest.mark.parametrize("fields", GOOD)
def test_accepted(fields: dict[str, Any]) -> None:
    decode_interaction(_message(**fields), NOW)


@pytest.mark.parametrize(("fields", "field"), BAD)
def test_refused_by_name(fields: dict[str, Any], field: str) -> None:
    """Exactly the bad field is named."""
    with pytest.raises(ServiceError) as caught:
        decode_interaction(_message(**fields), NOW)
    assert {violation.field for violation in caught.value.violations} == {f"interaction.{field}"}


def test_all_bad_fields_are_named() -> None:
    with pytest.raises(ServiceError) as caught:
        decode_interaction(pb.Interaction(event_id="x", watch_time=-1, rating=9), NOW)
    assert {violation.field.removeprefix("interaction.") for violation in caught.value.violations} == {
        "event_id", "user_id", "video_id", "interaction_type", "watch_time", "rating",
    }  # fmt: skip


def test_types_are_those_of_the_api() -> None:
    """No type of the API is unknown here, so none is refused by accident."""
    for name, number in pb.InteractionType.items():
        if number:
            extra = {"rating": 1.0} if name.endswith("RATING") else {}
            query = {"search_query": "q"} if name.endswith("SEARCH") else {}
            decoded = decode_interaction(_message(interaction_type=number, **extra, **query), NOW)
            assert decoded.interaction_type is InteractionType(name.removeprefix("INTERACTION_TYPE_").lower())


def test_absent_time_is_now_to_the_millisecond() -> None:
    assert decode_interaction(_message(), NOW).occurred_at == NOW.replace(microsecond=250_000)


@given(st.integers(-7 * 86_400_000 + 1, 300_000))
def test_time_is_kept_to_the_millisecond(offset_ms: int) -> None:
    """What Kafka's consumers read is what the caller sent, cut to milliseconds."""
    sent = NOW + timedelta(milliseconds=offset_ms)
    stamp = Timestamp()
    stamp.FromDatetime(sent)
    decoded = decode_interaction(_message(timestamp=stamp), NOW)
    shown = iso_milliseconds(decoded.occurred_at)
    assert shown.endswith("Z")
    assert datetime.fromisoformat(shown) == sent.replace(microsecond=sent.microsecond // 1000 * 1000)
