"""Turns served pages, failures of LightFM and users' interactions into Segment events.

A consumed event names its page by the feed session and the video: no video comes twice in one session.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import uuid4

from bridge.analytics.segment_sender import Event
from bridge.domain.interaction import Interaction
from bridge.domain.page import FallbackReason, ServedPage
from bridge.kafka.message import iso_milliseconds

SERVED: Final = "feed_recommendation_served"
ERROR: Final = "feed_recommendation_error"
CONSUMED: Final = "feed_recommendation_consumed"

PLANNED: Final = frozenset({FallbackReason.ANONYMOUS, FallbackReason.EXPERIMENT, FallbackReason.EXHAUSTED})
"""Reasons for a trending page that are no errors."""


class EventSender(Protocol):
    """Takes events without a wait."""

    def send(self, event: Event) -> None:
        """Leave an event to be sent."""


class Analytics:
    """Turns pages and interactions into events.

    Args:
        sender: Takes them.
        new_id: Makes the ids by which repeats are recognised.
    """

    def __init__(self, sender: EventSender, *, new_id: Callable[[], str] = lambda: uuid4().hex) -> None:
        self._sender = sender
        self._new_id = new_id

    def page_served(self, served: ServedPage) -> None:
        """Send the event of a served page, and one more when LightFM failed to rank it."""
        page = served.page
        properties: dict[str, Any] = {
            "feed_session_id": served.feed_session_id,
            "page": served.number,
            "surface": served.surface,
            "algorithm": page.algorithm,
            "served_by": page.served_by.value,
            "model_version": page.model_version,
            "experiment_variant_id": served.variant_id,
        }
        if page.fallback_reason:
            properties["fallback_reason"] = page.fallback_reason.value
            if page.fallback_reason not in PLANNED:
                self._track_page(ERROR, served, properties)
        self._track_page(SERVED, served, properties | {"video_ids": [video.video_id for video in page.videos]})

    def consumed(self, interaction: Interaction) -> None:
        """Send the event of an interaction with a recommended video; ignore interactions with other videos."""
        origin = interaction.recommendation
        if not origin.feed_session_id:
            return
        properties = {
            "feed_session_id": origin.feed_session_id,
            "video_id": interaction.video_id,
            "interaction_type": interaction.interaction_type.value,
            "watch_time_ms": interaction.watch_time_ms,
            "algorithm": origin.algorithm,
            "model_version": origin.model_version,
            "experiment_variant_id": origin.experiment_variant_id,
            "recommendation_score": origin.recommendation_score,
        }
        self._track(
            CONSUMED,
            user_id=interaction.user_id,
            session_id=origin.feed_session_id,
            properties=properties,
            at=interaction.occurred_at,
            message_id=str(interaction.event_id),
        )

    def _track_page(self, name: str, served: ServedPage, properties: Event) -> None:
        self._track(
            name,
            user_id=served.user_id,
            session_id=served.feed_session_id,
            properties=properties,
            at=served.served_at,
            message_id=self._new_id(),
        )

    def _track(
        self, name: str, *, user_id: str, session_id: str, properties: Event, at: datetime, message_id: str
    ) -> None:
        who = {"userId": user_id} if user_id else {"anonymousId": session_id}
        event = {
            "type": "track",
            "event": name,
            **who,
            "properties": properties,
            "timestamp": iso_milliseconds(at),
            "messageId": message_id,
        }
        self._sender.send(event)
