"""Defines users' feedback on recommendations: as a value, in Postgres and in Kafka."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum, auto
from typing import Final
from uuid import UUID, uuid5

from bridge.domain.event_identity import MAX_DERIVED, EventIdReusedError, content_of, derived_id
from bridge.domain.interaction import NO_RECOMMENDATION, RecommendationContext, check_recommendation, check_text
from bridge.kafka.message import (
    UNRECORDED,
    Message,
    iso_milliseconds,
    read_event_id,
    read_instant,
    read_recommendation,
    recommendation_headers,
)
from bridge.kafka.topics import FEEDBACK_TOPIC
from bridge.postgres.pool import Connection
from servicekit.grpc.request_checks import Checker
from servicekit.inputs.json_fields import JsonObject

MAX_COMMENT_BYTES: Final = 2000

_RECORD: Final = """
INSERT INTO recommendation_feedback (
    event_id, user_id, video_id, sentiment, comment, occurred_at,
    feed_session_id, algorithm, model_version, experiment_variant_id, recommendation_score
) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
_KNOWN: Final = (
    "SELECT user_id, video_id, sentiment, coalesce(comment, '') FROM recommendation_feedback WHERE event_id = %s"
)


class Sentiment(StrEnum):
    """A user's opinion of a recommendation."""

    POSITIVE = auto()
    NEGATIVE = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class Feedback:
    """Feedback of a user; `comment` may be empty."""

    event_id: UUID
    user_id: str
    video_id: str
    sentiment: Sentiment
    occurred_at: datetime
    comment: str = ""
    recommendation: RecommendationContext = NO_RECOMMENDATION

    def content(self) -> int:
        """Return a digest of the content, which detects an identifier that is used for something else."""
        return _content(self.video_id, self.sentiment.value, self.comment)

    async def record(self, connection: Connection) -> tuple[bool, Sequence[Message]]:
        """Insert the feedback; return whether it was new, and its message if so.

        Raises:
            EventIdReusedError: Its identifier is that of other feedback of the user.
        """
        row = self
        for _ in range(MAX_DERIVED):
            if await row._insert(connection):
                return True, [replace(self.message(), event_id=_message_id(row.event_id))]
            known = await (await connection.execute(_KNOWN, [row.event_id])).fetchone()
            if known is None or known[0] == self.user_id:
                if known and _content(*known[1:]) != self.content():
                    break
                return False, []
            row = replace(row, event_id=derived_id(row.event_id, self.user_id))
        raise EventIdReusedError(self.event_id)

    async def _insert(self, connection: Connection) -> bool:
        origin = self.recommendation
        cursor = await connection.execute(
            _RECORD,
            [
                self.event_id,
                self.user_id,
                self.video_id,
                self.sentiment.value,
                self.comment or None,
                self.occurred_at,
                origin.feed_session_id or None,
                origin.algorithm or None,
                origin.model_version or None,
                origin.experiment_variant_id or None,
                origin.recommendation_score,
            ],
        )
        return cursor.rowcount == 1

    def message(self, *, unrecorded: bool = False) -> Message:
        """Return the message of feedback for `feed.feedback.v1`; `unrecorded` marks it as missing in Postgres."""
        value = {
            "userId": self.user_id,
            "videoId": self.video_id,
            "sentiment": self.sentiment.value,
            "comment": self.comment,
            "timestamp": iso_milliseconds(self.occurred_at),
        }
        return Message(
            event_id=_message_id(self.event_id),
            topic=FEEDBACK_TOPIC,
            key=self.user_id,
            kind=self.sentiment.value,
            value=json.dumps(value, ensure_ascii=False, separators=(",", ":")),
            headers={
                "event-id": str(self.event_id),
                **dict(recommendation_headers(self.recommendation)),
                **({UNRECORDED: "1"} if unrecorded else {}),
            },
        )


def _content(video_id: str, sentiment: str, comment: str) -> int:
    return content_of(f"{video_id}\0{sentiment}\0{comment}")


def _message_id(event_id: UUID) -> UUID:
    """Return the outbox row's id, which differs from that of an interaction with the same event id."""
    return uuid5(event_id, FEEDBACK_TOPIC)


def read_feedback(value: bytes, headers: Mapping[str, str]) -> Feedback:
    """Return the feedback in a message; ValueError or ServiceError when the message holds none."""
    fields, checker = JsonObject(value), Checker()
    feedback = Feedback(
        event_id=read_event_id(headers),
        user_id=fields.identifier("userId"),
        video_id=fields.identifier("videoId"),
        sentiment=Sentiment(fields.text("sentiment")),
        occurred_at=read_instant(fields),
        comment=fields.text("comment"),
        recommendation=read_recommendation(headers),
    )
    check_text(feedback.comment, MAX_COMMENT_BYTES, checker, "comment")
    check_recommendation(feedback.recommendation, checker, "recommendation")
    checker.finish()
    return feedback
