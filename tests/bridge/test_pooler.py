"""The bridge and the lock of training behind a pooler, which shares sessions between clients."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Final
from uuid import uuid4

import pytest
from grpc import aio

from deploy.local.postgres import Postgres
from tests.bridge.events import drained, event, record, recorded
from tests.bridge.ingestion import running_ingestion
from tests.support.pgbouncer import pgbouncer
from videowindow.feed.v1 import interaction_pb2 as pb

MODES: Final = ("session", "transaction")
EVENTS: Final = 3000
CALLERS: Final = 64


@pytest.fixture(scope="module", params=MODES)
def pooled(
    request: pytest.FixtureRequest, postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """URL of a database behind a pooler; sessions of `session` last as long as clients, so it needs more of them."""
    url = postgres_server.create_database(f"test_{uuid4().hex}")
    size = 5 if request.param == "transaction" else 40
    with pgbouncer(tmp_path_factory.mktemp("pooler"), url, mode=request.param, pool_size=size) as through:
        yield through


async def test_interactions_pass_a_pooler(pooled: str, kafka_bootstrap: str) -> None:
    """Each of many at once is recorded, once, and reaches Kafka."""
    user = f"u-{uuid4()}"
    async with running_ingestion(pooled, kafka_bootstrap) as running:
        numbers = iter(range(EVENTS))
        outcomes: Counter[str] = Counter()

        async def send() -> None:
            for _ in numbers:
                try:
                    reply = await record(running, event(user))
                    outcomes[pb.AcknowledgementStatus.Name(reply.status)] += 1
                except aio.AioRpcError as error:
                    outcomes[error.code().name] += 1

        await asyncio.gather(*[send() for _ in range(CALLERS)])
        assert outcomes == {"ACKNOWLEDGEMENT_STATUS_ACCEPTED": EVENTS}
        assert len(await recorded(running, EVENTS, user)) == EVENTS
        await drained(running, timeout_s=60)
