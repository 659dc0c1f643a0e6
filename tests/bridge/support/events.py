"""Interactions to send, and what becomes of them."""

import asyncio
import time
from typing import Any
from uuid import uuid4

from google.rpc import error_details_pb2
from grpc import StatusCode, aio
from grpc_status import rpc_status

from tests.bridge.support.ingestion import Ingestion
from tests.bridge.support.topic import Record, read_topic
from videowindow.feed.v1 import interaction_pb2 as pb


def event(user: str, **fields: Any) -> pb.Interaction:
    """Return an interaction of a user with an event id."""
    defaults = {"event_id": str(uuid4()), "user_id": user, "video_id": "v1", "watch_time": 1500}
    return pb.Interaction(**{**defaults, "interaction_type": pb.INTERACTION_TYPE_WATCH, **fields})


async def record(
    running: Ingestion, interaction: pb.Interaction, *, timeout_s: float = 10
) -> pb.RecordInteractionResponse:
    """Record it."""
    reply: pb.RecordInteractionResponse = await running.stub.RecordInteraction(
        pb.RecordInteractionRequest(interaction=interaction), timeout=timeout_s
    )
    return reply


async def drained(running: Ingestion, *, timeout_s: float = 20) -> None:
    """Return once Kafka has acknowledged everything."""
    deadline = time.monotonic() + timeout_s
    while await running.depth():
        assert time.monotonic() < deadline, "the outbox did not drain"
        await asyncio.sleep(0.02)


async def published(running: Ingestion, bootstrap: str, topic: str, *users: str) -> list[Record]:
    """Return the users' messages once everything is published."""
    await drained(running, timeout_s=40)
    return await asyncio.to_thread(read_topic, bootstrap, topic, set(users))


async def recorded(running: Ingestion, count: int, *users: str, timeout_s: float = 20) -> list[str]:
    """Return the ids of the users' rows once there are as many as expected."""
    deadline = time.monotonic() + timeout_s
    while True:
        rows = await running.rows("SELECT event_id::text FROM user_interactions WHERE user_id = ANY(%s)", [*users])
        if len(rows) >= count:
            return [row[0] for row in rows]
        assert time.monotonic() < deadline, f"{len(rows)} of {count} rows"
        await asyncio.sleep(0.05)


def is_temporary(error: aio.AioRpcError) -> None:
    """Check that the caller is told to come back."""
    assert error.code() is StatusCode.UNAVAILABLE
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # an AioRpcError has what it needs
    assert status is not None
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    assert retry.retry_delay.ToMilliseconds() > 0
