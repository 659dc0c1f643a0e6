"""Converts feedback from protobuf."""

from datetime import datetime
from typing import Final

from bridge.domain.interaction import check_recommendation, check_text, check_timestamp
from bridge.ingest.feedback import MAX_COMMENT_BYTES, Feedback, Sentiment
from bridge.ingest.protobuf import decode_instant, decode_recommendation, decode_uuid, to_milliseconds
from servicekit.grpc.request_checks import Checker
from videowindow.feed.v1 import interaction_pb2 as pb

_SENTIMENTS: Final = {pb.Sentiment.Value(f"SENTIMENT_{one.name}"): one for one in Sentiment}


def decode_feedback(request: pb.RecordFeedbackRequest, now: datetime) -> Feedback:
    """Return the feedback; INVALID_ARGUMENT names each bad field."""
    now = to_milliseconds(now)
    checker = Checker()
    checker.identifier(request.user_id, "user_id")
    checker.identifier(request.video_id, "video_id")
    sentiment = _SENTIMENTS.get(request.sentiment)
    known = f"is {request.sentiment}, which is no known sentiment" if request.sentiment else "is required"
    checker.require(sentiment is not None, "sentiment", known)
    check_text(request.comment, MAX_COMMENT_BYTES, checker, "comment")
    feedback = Feedback(
        event_id=decode_uuid(request.event_id, checker, "event_id"),
        user_id=request.user_id,
        video_id=request.video_id,
        sentiment=sentiment or Sentiment.POSITIVE,  # an unknown one has been reported
        occurred_at=decode_instant(request, now, checker, "timestamp"),
        comment=request.comment,
        recommendation=decode_recommendation(request.recommendation),
    )
    check_timestamp(feedback.occurred_at, checker, "timestamp", now)
    check_recommendation(feedback.recommendation, checker, "recommendation")
    checker.finish()
    return feedback
