"""An interaction's way through the bridge stays short."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from tests.bridge.support.ingestion import Ingestion, running_ingestion
from tests.bridge.support.waiting import until
from tests.support.walk import Length, Walk, traced
from videowindow.feed.v1 import interaction_pb2 as pb

MAX_MODULES = 18
MAX_HOPS = 70


@pytest.fixture
async def ingestion(postgres_url: str, kafka_bootstrap: str) -> AsyncIterator[tuple[Ingestion, Walk]]:
    with traced() as walk:
        async with running_ingestion(postgres_url, kafka_bootstrap) as running:
            yield running, walk


async def _record(ingestion: Ingestion) -> None:
    event = pb.Interaction(
        event_id=str(uuid4()),
        user_id=str(uuid4()),
        video_id="v1",
        watch_time=1500,
        interaction_type=pb.INTERACTION_TYPE_WATCH,
    )
    await ingestion.stub.RecordInteraction(pb.RecordInteractionRequest(interaction=event), timeout=30)


async def _is_drained(ingestion: Ingestion) -> bool:
    return not await ingestion.depth()


async def test_an_interaction_passes_few_modules(ingestion: tuple[Ingestion, Walk]) -> None:
    running, walk = ingestion
    assert running.publisher is not None
    publisher = running.publisher
    await _record(running)
    paths = []
    for _ in range(5):
        await until(lambda: not publisher._producer.pending)
        with walk.recorded():
            await _record(running)
            await until(lambda: not publisher._producer.pending)
        paths.append(walk.path("bridge/ingest/interaction_service"))
    path = min(paths, key=len)
    length = Length.of(path)
    assert length.modules <= MAX_MODULES, path
    assert length.hops <= MAX_HOPS, path
