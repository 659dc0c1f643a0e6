"""Events of pages and interactions."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from bridge.analytics.segment_events import PLANNED, Analytics
from bridge.analytics.segment_sender import Event
from bridge.domain.interaction import NO_RECOMMENDATION, Interaction, InteractionType, RecommendationContext
from bridge.domain.page import FallbackReason, Page, RankedVideo, ServedBy, ServedPage

AT = datetime(2025, 9, 2, 3, 4, 5, 678000, tzinfo=UTC)


class Sent:
    """Keeps events."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def send(self, event: Event) -> None:
        self.events.append(event)


def _served(user_id: str = "u1", reason: FallbackReason | None = None) -> ServedPage:
    page = Page(
        videos=[RankedVideo("v1", 2.0), RankedVideo("v2", 1.0)],
        more=True,
        algorithm="trending" if reason else "lightfm-warp",
        served_by=ServedBy.TRENDING if reason else ServedBy.LIGHTFM,
        model_version="" if reason else "m1",
        fallback_reason=reason,
    )
    return ServedPage(
        user_id=user_id,
        feed_session_id="s1",
        number=2,
        surface="home",
        variant_id="blue",
        served_at=AT,
        page=page,
    )


def test_served_page() -> None:
    sent = Sent()
    Analytics(sent, new_id=lambda: "id").page_served(_served())
    assert sent.events == [
        {
            "type": "track",
            "event": "feed_recommendation_served",
            "userId": "u1",
            "messageId": "id",
            "timestamp": "2025-09-02T03:04:05.678Z",
            "properties": {
                "feed_session_id": "s1",
                "page": 2,
                "surface": "home",
                "algorithm": "lightfm-warp",
                "served_by": "lightfm",
                "model_version": "m1",
                "experiment_variant_id": "blue",
                "video_ids": ["v1", "v2"],
            },
        }
    ]


@pytest.mark.parametrize("reason", FallbackReason)
def test_failure_makes_an_error_beside_the_page(reason: FallbackReason) -> None:
    """A trending page that was planned is no error."""
    sent = Sent()
    Analytics(sent).page_served(_served(reason=reason))
    names = [event["event"] for event in sent.events]
    failed = [] if reason in PLANNED else ["feed_recommendation_error"]
    assert names == [*failed, "feed_recommendation_served"]
    assert {event["properties"]["fallback_reason"] for event in sent.events} == {reason.value}
    assert len({event["messageId"] for event in sent.events}) == len(sent.events)


def test_anonymous_user_is_known_by_the_session() -> None:
    sent = Sent()
    Analytics(sent).page_served(_served(user_id="", reason=FallbackReason.ANONYMOUS))
    (event,) = sent.events
    assert event["anonymousId"] == "s1"
    assert "userId" not in event


@pytest.mark.parametrize("session", ["s1", ""])
def test_consumed(session: str) -> None:
    """An interaction is tied to its page by session and video, and sent once by its event id."""
    origin = RecommendationContext(feed_session_id=session, algorithm="lightfm-warp", recommendation_score=1.5)
    interaction = Interaction(
        event_id=UUID(int=7),
        user_id="u1",
        video_id="v2",
        interaction_type=InteractionType.WATCH,
        watch_time_ms=900,
        occurred_at=AT,
        recommendation=origin if session else NO_RECOMMENDATION,
    )
    sent = Sent()
    Analytics(sent).consumed(interaction)
    if not session:
        assert not sent.events
        return
    (event,) = sent.events
    assert (event["event"], event["messageId"]) == ("feed_recommendation_consumed", str(UUID(int=7)))
    properties = event["properties"]
    assert (properties["feed_session_id"], properties["video_id"]) == ("s1", "v2")
    assert (properties["interaction_type"], properties["watch_time_ms"]) == ("watch", 900)
