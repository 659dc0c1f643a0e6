"""Converts interactions between protobuf and values."""

from datetime import datetime, timedelta
from typing import Final, Literal, Protocol
from uuid import UUID, uuid4

from google.protobuf.timestamp_pb2 import Timestamp

from bridge.domain.interaction import EPOCH, Interaction, InteractionType, RecommendationContext, check_interaction
from bridge.feed.protobuf import FIRST_SECOND, LAST_SECOND
from bridge.ingest.acknowledgement import Acknowledgement
from servicekit.grpc.request_checks import Checker
from servicekit.inputs.numbers import SMALLEST
from videowindow.feed.v1 import interaction_pb2 as pb

_TYPES: Final = {pb.InteractionType.Value(f"INTERACTION_TYPE_{one.name}"): one for one in InteractionType}


def decode_interaction(message: pb.Interaction, now: datetime, path: str = "interaction") -> Interaction:
    """Return the interaction; INVALID_ARGUMENT names each bad field below the path."""
    now = to_milliseconds(now)  # as precise as what it is compared with
    checker = Checker()
    kind = _TYPES.get(message.interaction_type)
    if kind is None:
        known = f"is {message.interaction_type}, which is no known type" if message.interaction_type else "is required"
        checker.report(f"{path}.interaction_type", known)
    interaction = Interaction(
        event_id=decode_uuid(message.event_id, checker, f"{path}.event_id"),
        user_id=message.user_id,
        video_id=message.video_id,
        # Any type will do for the other checks where this one is unknown, which has been reported.
        interaction_type=kind or _type_by_fields(message),
        watch_time_ms=message.watch_time,
        occurred_at=decode_instant(message, now, checker, f"{path}.timestamp"),
        recommendation=decode_recommendation(message.recommendation),
        rating=_countable(message.rating) if message.HasField("rating") else None,
        search_query=message.search_query,
        metadata=dict(message.metadata),
    )
    check_interaction(interaction, checker, path, now)
    if checker.violations:
        checker.finish()
    return interaction


def status_of(acknowledgement: Acknowledgement) -> pb.AcknowledgementStatus.ValueType:
    """Return the acknowledgement's status as an enum of protobuf."""
    return pb.ACKNOWLEDGEMENT_STATUS_DUPLICATE if acknowledgement.duplicate else pb.ACKNOWLEDGEMENT_STATUS_ACCEPTED


def to_milliseconds(instant: datetime) -> datetime:
    """Return the instant, truncated to milliseconds."""
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


def _type_by_fields(message: pb.Interaction) -> InteractionType:
    if message.HasField("rating"):
        return InteractionType.RATING
    return InteractionType.SEARCH if message.search_query else InteractionType.IMPRESSION


def decode_uuid(text: str, checker: Checker, path: str) -> UUID:
    """Return the UUID of a text, a new one for an empty text; report any other text."""
    if not text:
        return uuid4()
    try:
        event_id = UUID(text)
    except ValueError:
        event_id = UUID(int=0)
    # UUID() also takes braces, URNs and hyphens anywhere: two spellings of one event would be two for others.
    if str(event_id) != text.lower():
        checker.report(path, "must be a UUID such as 123e4567-e89b-12d3-a456-426614174000")
    return event_id


class Stamped(Protocol):
    """A message with a timestamp."""

    @property
    def timestamp(self) -> Timestamp:
        """The instant of the event."""

    def HasField(self, field_name: Literal["timestamp"], /) -> bool:  # noqa: N802  # protobuf names it
        """Return whether the field is set."""


def decode_instant(message: Stamped, now: datetime, checker: Checker, path: str) -> datetime:
    """Return the instant of the event in milliseconds; now if it is unset or no valid timestamp."""
    if not message.HasField("timestamp"):
        return now
    instant = message.timestamp
    if FIRST_SECOND <= instant.seconds <= LAST_SECOND and 0 <= instant.nanos < 10**9:
        return EPOCH + timedelta(seconds=instant.seconds, milliseconds=instant.nanos // 10**6)
    checker.report(path, "is not a valid timestamp of the years 1 to 9999")
    return now


def decode_recommendation(message: pb.RecommendationContext) -> RecommendationContext:
    """Return the recommendation that led to an event."""
    return RecommendationContext(
        feed_session_id=message.feed_session_id,
        algorithm=message.algorithm,
        model_version=message.model_version,
        experiment_variant_id=message.experiment_variant_id,
        recommendation_score=_countable(message.recommendation_score)
        if message.HasField("recommendation_score")
        else None,
    )


def _countable(number: float) -> float:
    """Return 0 for a number whose products would underflow, else the number."""
    return 0.0 if abs(number) < SMALLEST else number
