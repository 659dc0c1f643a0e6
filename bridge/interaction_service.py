"""InteractionService over gRPC."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from grpc import aio

from bridge.feed_codec import check_timestamp
from bridge.interaction import EPOCH, Interaction, InteractionType, RecommendationContext, check_interaction
from bridge.recorder import Acknowledgement, Recorder, RecorderUnavailableError
from servicekit.errors import unavailable, unimplemented
from servicekit.telemetry import Metric, Metrics
from servicekit.validation import Checker
from videowindow.feed.v1 import interaction_pb2 as pb
from videowindow.feed.v1.interaction_pb2_grpc import InteractionServiceServicer

RETRY_AFTER_S: Final = 1.0
_REPLY_RESERVE_S: Final = 0.010

_TYPES: Final = {pb.InteractionType.Value(f"INTERACTION_TYPE_{one.name}"): one for one in InteractionType}


class InteractionService(InteractionServiceServicer):
    """Takes interactions in.

    Args:
        recorder: Makes them durable.
        metrics: Told what became of each.
        budget_s: Seconds that this may take; less when the caller's deadline is nearer.
        now: The time of day (UTC).
    """

    def __init__(
        self,
        recorder: Recorder,
        metrics: Metrics,
        *,
        budget_s: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._recorder = recorder
        self._metrics = metrics
        self._budget_s = budget_s
        self._now = now

    async def RecordInteraction(  # the name of the RPC
        self, request: pb.RecordInteractionRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.RecordInteractionResponse:
        """Return once the interaction is durable."""
        checker = Checker()
        checker.require(request.HasField("interaction"), "interaction", "is required")
        checker.finish()
        interaction = decode_interaction(request.interaction, self._now())
        acknowledgement = await self._record(interaction, context.time_remaining())
        status = (
            pb.ACKNOWLEDGEMENT_STATUS_DUPLICATE if acknowledgement.duplicate else pb.ACKNOWLEDGEMENT_STATUS_ACCEPTED
        )
        return pb.RecordInteractionResponse(event_id=str(acknowledgement.event_id), status=status)

    async def _record(self, interaction: Interaction, caller_s: float | None) -> Acknowledgement:
        allowed = self._budget_s if caller_s is None else min(self._budget_s, caller_s - _REPLY_RESERVE_S)
        try:
            acknowledgement = await self._recorder.record(interaction, timeout_s=allowed)
        except RecorderUnavailableError as error:
            self._count("unavailable")
            raise unavailable("INGESTION_UNAVAILABLE", str(error), retry_after_s=RETRY_AFTER_S) from None
        self._count("duplicate" if acknowledgement.duplicate else "accepted")
        return acknowledgement

    def _count(self, status: str) -> None:
        self._metrics.count(Metric.INTERACTIONS, tags=[f"status:{status}"])

    def StreamInteractions(  # the name of the RPC
        self,
        request_iterator: AsyncIterator[pb.StreamInteractionsRequest],  # gRPC passes it
        context: aio.ServicerContext[Any, Any],  # gRPC passes it
    ) -> AsyncIterator[pb.StreamInteractionsResponse]:
        """Say that this server does not offer it."""
        raise unimplemented("StreamInteractions")

    async def RecordFeedback(  # the name of the RPC
        self,
        request: pb.RecordFeedbackRequest,  # gRPC passes it
        context: aio.ServicerContext[Any, Any],  # gRPC passes it
    ) -> pb.RecordFeedbackResponse:
        """Say that this server does not offer it."""
        raise unimplemented("RecordFeedback")


def decode_interaction(message: pb.Interaction, now: datetime, path: str = "interaction") -> Interaction:
    """Return the interaction; INVALID_ARGUMENT that names each bad field below the path."""
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)  # as precise as what it is compared with
    checker = Checker()
    kind = _TYPES.get(message.interaction_type)
    known = f"is {message.interaction_type}, which is no known type" if message.interaction_type else "is required"
    checker.require(kind is not None, f"{path}.interaction_type", known)
    interaction = Interaction(
        event_id=_decode_event_id(message.event_id, checker, f"{path}.event_id"),
        user_id=message.user_id,
        video_id=message.video_id,
        # Any type will do for the other checks where this one is unknown, which has been reported.
        interaction_type=kind or _type_by_fields(message),
        watch_time_ms=message.watch_time,
        occurred_at=_decode_instant(message, now, checker, f"{path}.timestamp"),
        recommendation=_decode_recommendation(message.recommendation),
        rating=message.rating if message.HasField("rating") else None,
        search_query=message.search_query,
        metadata=dict(message.metadata),
    )
    check_interaction(interaction, checker, path, now)
    checker.finish()
    return interaction


def _type_by_fields(message: pb.Interaction) -> InteractionType:
    if message.HasField("rating"):
        return InteractionType.RATING
    return InteractionType.SEARCH if message.search_query else InteractionType.IMPRESSION


def _decode_event_id(text: str, checker: Checker, path: str) -> UUID:
    if not text:
        return uuid4()
    try:
        event_id = UUID(text)
    except ValueError:
        event_id = UUID(int=0)
    # UUID() also takes braces, URNs and hyphens anywhere: two spellings of one event would be two for others.
    checker.require(str(event_id) == text.lower(), path, "must be a UUID such as 123e4567-e89b-12d3-a456-426614174000")
    return event_id


def _decode_instant(message: pb.Interaction, now: datetime, checker: Checker, path: str) -> datetime:
    """Return when it happened, to the millisecond; now when unset, or when it is no valid timestamp."""
    if message.HasField("timestamp") and check_timestamp(message.timestamp, checker, path):
        instant = message.timestamp
        return EPOCH + timedelta(seconds=instant.seconds, milliseconds=instant.nanos // 10**6)
    return now


def _decode_recommendation(message: pb.RecommendationContext) -> RecommendationContext:
    return RecommendationContext(
        feed_session_id=message.feed_session_id,
        algorithm=message.algorithm,
        model_version=message.model_version,
        experiment_variant_id=message.experiment_variant_id,
        recommendation_score=message.recommendation_score if message.HasField("recommendation_score") else None,
    )
