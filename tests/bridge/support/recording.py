"""Interactions recorded, and found again in Postgres and in Kafka."""

import asyncio
import time
from typing import Any
from uuid import uuid4

from bridge.kafka.message import INTERACTIONS_TOPIC
from tests.bridge.support.ingestion import Ingestion
from tests.bridge.support.topic import Record, read_topic
from videowindow.feed.v1 import interaction_pb2 as pb

ACCEPTED, DUPLICATE = pb.ACKNOWLEDGEMENT_STATUS_ACCEPTED, pb.ACKNOWLEDGEMENT_STATUS_DUPLICATE


def new_event(user: str, **fields: Any) -> pb.Interaction:
    defaults = {"event_id": str(uuid4()), "user_id": user, "video_id": "v1", "watch_time": 1500}
    return pb.Interaction(**{**defaults, "interaction_type": pb.INTERACTION_TYPE_WATCH, **fields})


async def record_one(ingestion: Ingestion, event: pb.Interaction) -> pb.RecordInteractionResponse:
    reply: pb.RecordInteractionResponse = await ingestion.stub.RecordInteraction(
        pb.RecordInteractionRequest(interaction=event), timeout=10
    )
    return reply


async def all_drained(ingestion: Ingestion, *, timeout_s: float = 20) -> None:
    """Return once Kafka has acknowledged everything."""
    deadline = time.monotonic() + timeout_s
    while await ingestion.depth():
        assert time.monotonic() < deadline, "the outbox did not drain"
        await asyncio.sleep(0.02)


async def published_of(ingestion: Ingestion, bootstrap: str, *users: str) -> list[Record]:
    await all_drained(ingestion)
    return await asyncio.to_thread(read_topic, bootstrap, INTERACTIONS_TOPIC, set(users))
