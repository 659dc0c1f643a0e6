"""Kafka messages, and how an interaction becomes one."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from bridge.interaction import Interaction

INTERACTIONS_TOPIC: Final = "feed.interactions.v1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """A message of one event.

    Attributes:
        event_id: The event; the outbox row's id.
        topic: The topic.
        key: The partition key; messages of one key keep their order.
        kind: The event's type, for routing.
        value: UTF-8 JSON.
        headers: Names and values, `event-id` among them.
    """

    event_id: UUID
    topic: str
    key: str
    kind: str
    value: str
    headers: dict[str, str]


def interaction_message(interaction: Interaction) -> Message:
    """Return the interaction as consumers of `feed.interactions.v1` know it."""
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
        headers=dict(_headers(interaction)),
    )


def iso_milliseconds(instant: datetime) -> str:
    """Return a UTC instant as ISO 8601 with three decimals and Z."""
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _headers(interaction: Interaction) -> Iterator[tuple[str, str]]:
    yield "event-id", str(interaction.event_id)
    origin = interaction.recommendation
    named = {
        "feed-session-id": origin.feed_session_id,
        "algorithm": origin.algorithm,
        "model-version": origin.model_version,
        "experiment-variant-id": origin.experiment_variant_id,
    }
    yield from ((name, value) for name, value in named.items() if value)
