"""Serves InteractionService over gRPC."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, Final

from grpc import aio

from bridge.domain.event_identity import EventIdReusedError
from bridge.domain.interaction import Interaction
from bridge.ingest.acknowledgement import Acknowledgement, NotDurableError
from bridge.ingest.feedback_protobuf import decode_feedback
from bridge.ingest.feedback_recorder import FeedbackRecorder
from bridge.ingest.interaction_stream import RETRY_AFTER_S, UNAVAILABLE, InteractionStream, Request, reused
from bridge.ingest.protobuf import decode_interaction, status_of
from bridge.ingest.recorder import Recorder
from servicekit.grpc.error_mapping import told_of_malformed
from servicekit.grpc.errors import Violation, invalid_argument, unavailable
from servicekit.telemetry.metrics import Metric, Metrics
from videowindow.feed.v1 import interaction_pb2 as pb
from videowindow.feed.v1.interaction_pb2_grpc import InteractionServiceServicer

_REPLY_RESERVE_S: Final = 0.010


class InteractionService(InteractionServiceServicer):
    """Records interactions and feedback.

    Args:
        recorder: Makes them durable.
        feedback: Makes feedback durable.
        metrics: Told what became of each.
        budget_s: Seconds that this may take; less when the caller's deadline is nearer.
        now: The time of day (UTC).
    """

    def __init__(
        self,
        recorder: Recorder,
        feedback: FeedbackRecorder,
        metrics: Metrics,
        *,
        budget_s: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._recorder = recorder
        self._feedback = feedback
        self._metrics = metrics
        self._budget_s = budget_s
        self._now = now

    async def RecordInteraction(  # the name of the RPC
        self, request: pb.RecordInteractionRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.RecordInteractionResponse:
        """Return once the interaction is durable."""
        if not request.HasField("interaction"):
            raise invalid_argument(Violation("interaction", "is required"))
        interaction = decode_interaction(request.interaction, self._now())
        acknowledgement = await self._record(interaction, context.time_remaining())
        return pb.RecordInteractionResponse(event_id=str(acknowledgement.event_id), status=status_of(acknowledgement))

    async def _record(self, interaction: Interaction, caller_s: float | None) -> Acknowledgement:
        try:
            acknowledgement = await self._recorder.submit(interaction, timeout_s=self._allowed(caller_s))
        except NotDurableError as error:
            self._count("unavailable")
            raise unavailable(UNAVAILABLE, str(error), retry_after_s=RETRY_AFTER_S) from None
        except EventIdReusedError as error:
            self._count("reused")
            raise reused(error) from None
        self._count("duplicate" if acknowledgement.duplicate else "accepted")
        return acknowledgement

    def _allowed(self, caller_s: float | None) -> float:
        return self._budget_s if caller_s is None else min(self._budget_s, caller_s - _REPLY_RESERVE_S)

    def _count(self, status: str) -> None:
        self._metrics.count(Metric.INTERACTIONS, tags=[f"status:{status}"])

    @told_of_malformed
    def StreamInteractions(  # the name of the RPC
        self,
        request_iterator: AsyncIterator[Request],
        context: aio.ServicerContext[Any, Any],  # gRPC passes it
    ) -> AsyncIterator[pb.StreamInteractionsResponse]:
        """Return one acknowledgement or error an event, in request order."""
        stream = InteractionStream(self._recorder, self._now, self._count, budget_s=self._budget_s)
        return stream.replies(request_iterator)

    async def RecordFeedback(  # the name of the RPC
        self, request: pb.RecordFeedbackRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.RecordFeedbackResponse:
        """Return once the feedback is durable."""
        feedback = decode_feedback(request, self._now())
        try:
            fresh = await self._feedback.record(feedback, timeout_s=self._allowed(context.time_remaining()))
        except NotDurableError as error:
            raise unavailable(UNAVAILABLE, str(error), retry_after_s=RETRY_AFTER_S) from None
        except EventIdReusedError as error:
            raise reused(error) from None
        status = pb.ACKNOWLEDGEMENT_STATUS_ACCEPTED if fresh else pb.ACKNOWLEDGEMENT_STATUS_DUPLICATE
        return pb.RecordFeedbackResponse(event_id=str(feedback.event_id), status=status)
