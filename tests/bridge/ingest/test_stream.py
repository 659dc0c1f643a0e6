"""Many interactions over one call."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import Any
from uuid import uuid4

import pytest
from google.rpc.code_pb2 import INVALID_ARGUMENT, UNAVAILABLE

from bridge.ingest.interaction_stream import WINDOW
from bridge.kafka.message import INTERACTIONS_TOPIC
from deploy.local.postgres import Postgres
from tests.bridge.support.events import event, published
from tests.bridge.support.ingestion import Ingestion, running_ingestion
from tests.bridge.support.waiting import until
from videowindow.feed.v1 import interaction_pb2 as pb

ACCEPTED, DUPLICATE = pb.ACKNOWLEDGEMENT_STATUS_ACCEPTED, pb.ACKNOWLEDGEMENT_STATUS_DUPLICATE

BUFFERED = 30_000
"""More events of this size than the buffers of HTTP/2 and of the sockets hold, on both sides."""


@pytest.fixture(scope="module")
async def ingestion(postgres_url: str, kafka_bootstrap: str) -> AsyncIterator[Ingestion]:
    async with running_ingestion(postgres_url, kafka_bootstrap) as running:
        yield running


async def _stream(running: Ingestion, events: Iterable[pb.Interaction | None]) -> list[Any]:
    async def requests() -> AsyncIterator[pb.StreamInteractionsRequest]:
        for interaction in events:
            yield pb.StreamInteractionsRequest(interaction=interaction)

    return [reply async for reply in running.stub.StreamInteractions(requests(), timeout=60)]


async def test_every_event_is_answered_in_order(ingestion: Ingestion, kafka_bootstrap: str) -> None:
    """Good, repeated, bad and absent ones, far more than the window holds; the good ones arrive in their order."""
    user = f"user-{uuid4()}"
    good = [event(user, watch_time=number) for number in range(3 * WINDOW)]
    bad = event(user, watch_time=-1)
    replies = await _stream(ingestion, [*good, good[0], bad, None, event("", event_id="")])
    assert [reply.index for reply in replies] == list(range(len(good) + 4))
    assert Counter(reply.status for reply in replies[: len(good)]) == {ACCEPTED: len(good)}
    assert [reply.event_id for reply in replies[: len(good)]] == [one.event_id for one in good]
    again, *refused = replies[len(good) :]
    assert (again.event_id, again.status) == (good[0].event_id, DUPLICATE)
    assert [reply.error.field for reply in refused] == ["interaction.watch_time", "interaction", "interaction.user_id"]
    assert {(reply.error.code, reply.error.reason) for reply in refused} == {(INVALID_ARGUMENT, "INVALID_ARGUMENT")}
    assert [reply.event_id for reply in refused] == [bad.event_id, "", ""]
    records = await published(ingestion, kafka_bootstrap, INTERACTIONS_TOPIC, user)
    first_seen = dict.fromkeys(one.value["watchTime"] for one in records)
    assert list(first_seen) == list(range(len(good)))


async def test_firehose_is_held_back(own_postgres: Postgres) -> None:
    """While nothing can be recorded, no more than a window of a stream is taken in, however much is sent."""
    sent = 0

    async def firehose() -> AsyncIterator[pb.StreamInteractionsRequest]:
        nonlocal sent
        while True:
            yield pb.StreamInteractionsRequest(interaction=event("firehose", metadata={"padding": "x" * 500}))
            sent += 1

    async with running_ingestion(own_postgres.url("videowindow"), None, budget_s=60) as running:
        assert own_postgres.child is not None
        own_postgres.child.suspend()
        call = running.stub.StreamInteractions(firehose())
        try:
            before, steady = -1, 0
            while steady < 5:
                steady = steady + 1 if sent == before else 0
                before = sent
                await asyncio.sleep(0.1)
        finally:
            own_postgres.child.resume()
        assert WINDOW < sent < WINDOW + BUFFERED
        for _ in range(WINDOW):
            assert (await call.read()).status == ACCEPTED
        call.cancel()


async def test_cancelled_stream_leaves_nothing_behind(ingestion: Ingestion) -> None:
    async def endless() -> AsyncIterator[pb.StreamInteractionsRequest]:
        while True:
            yield pb.StreamInteractionsRequest(interaction=event("gone"))

    call = ingestion.stub.StreamInteractions(endless())
    for _ in range(10):
        await call.read()
    call.cancel()
    await until(lambda: ingestion.recorder.waiting == 0)


async def test_stream_while_nothing_is_reachable(own_postgres: Postgres) -> None:
    """Each event is refused for now, with when to send it again; the call itself goes on."""
    async with running_ingestion(own_postgres.url("videowindow"), None, budget_s=0.5) as running:
        assert own_postgres.child is not None
        own_postgres.child.kill()
        replies = await _stream(running, [event("u") for _ in range(20)])
    assert {(one.error.code, one.error.reason) for one in replies} == {(UNAVAILABLE, "INGESTION_UNAVAILABLE")}
    assert all(one.error.retry_after_ms > 0 for one in replies)
