"""What viewers say of a recommendation, as a value, in Postgres and in Kafka."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum, auto
from typing import Final
from uuid import UUID, uuid5

from bridge.database import Connection
from bridge.interaction import NO_RECOMMENDATION, RecommendationContext
from bridge.message import UNRECORDED, Message, iso_milliseconds, read_recommendation, recommendation_headers
from bridge.topics import FEEDBACK_TOPIC

MAX_COMMENT_BYTES: Final = 2000

_RECORD: Final = """
INSERT INTO recommendation_feedback (
    event_id, user_id, video_id, sentiment, comment, occurred_at,
    feed_session_id, algorithm, model_version, experiment_variant_id, recommendation_score
) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""


class Sentiment(StrEnum):
    """What a viewer thinks of a recommendation."""

    POSITIVE = auto()
    NEGATIVE = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class Feedback:
    """What a viewer says; `comment` may be empty."""

    event_id: UUID
    user_id: str
    video_id: str
    sentiment: Sentiment
    occurred_at: datetime
    comment: str = ""
    recommendation: RecommendationContext = NO_RECOMMENDATION

    async def record(self, connection: Connection) -> tuple[bool, Sequence[Message]]:
        """Insert it; return whether it was new, and the message that tells of it if so."""
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
        fresh = cursor.rowcount == 1
        return fresh, [self.message()] if fresh else []

    def message(self, *, unrecorded: bool = False) -> Message:
        """Return it as consumers of `feed.feedback.v1` know it; `unrecorded` marks it as not in Postgres yet."""
        value = {
            "userId": self.user_id,
            "videoId": self.video_id,
            "sentiment": self.sentiment.value,
            "comment": self.comment,
            "timestamp": iso_milliseconds(self.occurred_at),
        }
        return Message(
            event_id=uuid5(self.event_id, FEEDBACK_TOPIC),  # an interaction may bear the same event id
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


def read_feedback(value: bytes, headers: Mapping[str, str]) -> Feedback:
    """Return the feedback that a message was made of; ValueError or KeyError when it was made of none."""
    fields = json.loads(value)
    return Feedback(
        event_id=UUID(headers["event-id"]),
        user_id=str(fields["userId"]),
        video_id=str(fields["videoId"]),
        sentiment=Sentiment(fields["sentiment"]),
        occurred_at=datetime.fromisoformat(fields["timestamp"]).astimezone(UTC),
        comment=str(fields["comment"]),
        recommendation=read_recommendation(headers),
    )
