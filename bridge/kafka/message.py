"""Converts interactions to Kafka messages and back."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from bridge.domain.event_identity import identity_of
from bridge.domain.interaction import MAX_RATING, MAX_WATCH_TIME_MS, Interaction, InteractionType, RecommendationContext
from servicekit.inputs.json_fields import JsonObject
from servicekit.inputs.numbers import read_number

INTERACTIONS_TOPIC: Final = "feed.interactions.v1"
DEAD_LETTER_TOPIC: Final = "feed.interactions.v1.dlq"
UNRECORDED: Final = "unrecorded"
"""Header of an interaction that was not in Postgres when it was sent: it has to be brought there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """A message of one event.

    Attributes:
        event_id: The outbox row's id: the event's own, or derived from it, as where another user has used that.
        topic: The topic.
        key: The partition key; messages of one key keep their order.
        kind: The event's type, for routing.
        value: UTF-8 JSON; None for a tombstone, which makes consumers forget the key.
        headers: Names and values, `event-id` among them.
    """

    event_id: UUID
    topic: str
    key: str
    kind: str
    value: str | None
    headers: dict[str, str]


def interaction_message(interaction: Interaction, *, unrecorded: bool = False) -> Message:
    """Return the interaction as a message of `feed.interactions.v1`."""
    value = {
        "userId": interaction.user_id,
        "videoId": interaction.video_id,
        "interactionType": interaction.interaction_type.value,
        "watchTime": interaction.watch_time_ms,
        "timestamp": iso_milliseconds(interaction.occurred_at),
    }
    return Message(
        event_id=interaction.event_id,
        topic=INTERACTIONS_TOPIC,
        key=interaction.user_id,
        kind=interaction.interaction_type.value,
        value=json.dumps(value, ensure_ascii=False, separators=(",", ":")),
        headers=dict(_headers(interaction)) | ({UNRECORDED: "1"} if unrecorded else {}),
    )


def read_interaction(value: bytes, headers: Mapping[str, str]) -> Interaction:
    """Return the interaction in a message; ValueError when the message holds none."""
    fields = JsonObject(value)
    rating = headers.get("rating")
    return Interaction(
        event_id=read_event_id(headers),
        user_id=fields.identifier("userId"),
        video_id=fields.identifier("videoId"),
        interaction_type=InteractionType(fields.text("interactionType")),
        occurred_at=read_instant(fields),
        watch_time_ms=fields.whole("watchTime", most=MAX_WATCH_TIME_MS),
        recommendation=read_recommendation(headers),
        rating=None if rating is None else read_number(rating, least=0, most=MAX_RATING),
        search_query=headers.get("search-query", ""),
        metadata=JsonObject(headers.get("metadata", "{}")).texts(),
    )


def read_event_id(headers: Mapping[str, str]) -> UUID:
    """Return a message's event id; ValueError if it is missing or not in the usual spelling."""
    text = headers.get("event-id", "")
    event_id = UUID(text)
    if str(event_id) != text.lower():  # UUID also takes braces, URNs and hyphens anywhere
        raise ValueError(f"event-id is {text!r}, which is no UUID such as {event_id}")
    return event_id


def read_instant(fields: JsonObject) -> datetime:
    """Return a message's timestamp (UTC); ValueError for one without an offset, or beyond the calendar."""
    instant = datetime.fromisoformat(fields.text("timestamp"))
    if instant.tzinfo is None:
        raise ValueError("timestamp has no offset from UTC")
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError("timestamp is beyond the calendar") from None


def identity_of_message(message: Message) -> bytes:
    """Return the identity of the user's event in a message."""
    return identity_of(UUID(message.headers["event-id"]), message.key)


def iso_milliseconds(instant: datetime) -> str:
    """Return a UTC instant as ISO 8601 with three decimals and Z."""
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def recommendation_headers(origin: RecommendationContext) -> Iterator[tuple[str, str]]:
    """Yield the known headers of the recommendation that led to an event."""
    if origin.feed_session_id:
        yield "feed-session-id", origin.feed_session_id
    if origin.algorithm:
        yield "algorithm", origin.algorithm
    if origin.model_version:
        yield "model-version", origin.model_version
    if origin.experiment_variant_id:
        yield "experiment-variant-id", origin.experiment_variant_id
    if origin.recommendation_score is not None:
        yield "recommendation-score", repr(origin.recommendation_score)


def read_recommendation(headers: Mapping[str, str]) -> RecommendationContext:
    """Return the recommendation in a message's headers; ValueError for a score that is no number."""
    score = headers.get("recommendation-score")
    return RecommendationContext(
        feed_session_id=headers.get("feed-session-id", ""),
        algorithm=headers.get("algorithm", ""),
        model_version=headers.get("model-version", ""),
        experiment_variant_id=headers.get("experiment-variant-id", ""),
        recommendation_score=None if score is None else read_number(score),
    )


def _headers(interaction: Interaction) -> Iterator[tuple[str, str]]:
    yield "event-id", str(interaction.event_id)
    yield from recommendation_headers(interaction.recommendation)
    if interaction.rating is not None:
        yield "rating", repr(interaction.rating)
    if interaction.search_query:
        yield "search-query", interaction.search_query
    if interaction.metadata:
        yield (
            "metadata",
            json.dumps(dict(interaction.metadata), ensure_ascii=False, separators=(",", ":"), sort_keys=True),
        )
