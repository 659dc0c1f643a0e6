"""The ingestion half of a bridge, in this process, with its peers given."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

from grpc import aio

from bridge.background import background
from bridge.database import Database
from bridge.interaction_service import InteractionService
from bridge.kafka import PRODUCER, KafkaPublisher
from bridge.outbox import Outbox
from bridge.recorder import Recorder
from servicekit.lifecycle import AioServer
from servicekit.telemetry import Metrics, NoMetrics
from tests.bridge.waiting import until
from videowindow.feed.v1.interaction_pb2_grpc import InteractionServiceStub, add_InteractionServiceServicer_to_server

SERVICE = "videowindow.feed.v1.InteractionService"


@dataclass
class Ingestion:
    """A running ingestion service."""

    stub: Any
    database: Database
    recorder: Recorder
    outbox: Outbox | None

    async def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return what a query finds."""
        async with self.database.connection() as connection:
            return await (await connection.execute(query, parameters)).fetchall()

    async def depth(self) -> int:
        """Return how many rows the outbox has."""
        return int((await self.rows("SELECT count(*) FROM interactions_outbox"))[0][0])


@asynccontextmanager
async def running_ingestion(
    url: str,
    bootstrap: str | None,
    *,
    metrics: Metrics | None = None,
    budget_s: float = 2.0,
    options: dict[str, Any] | None = None,
) -> AsyncIterator[Ingestion]:
    """Run the service until the block ends; without Kafka where no bootstrap is given."""
    metrics = metrics or NoMetrics()
    server = AioServer([SERVICE])
    async with AsyncExitStack() as stack:
        database = Database(url)
        await database.open()
        stack.push_async_callback(database.close)
        await stack.enter_async_context(background("schema", database.keep_schema))
        outbox = None
        if bootstrap is not None:
            publisher = KafkaPublisher(bootstrap, options={**PRODUCER, **(options or {})})
            stack.push_async_callback(publisher.close, flush_s=0.1)
            outbox = Outbox(database, publisher, metrics, monotonic)
            await stack.enter_async_context(background("outbox", outbox.keep_clean))
            await stack.enter_async_context(background("relay", outbox.relay))
        recorder = Recorder(database, outbox, monotonic)
        for number in range(2):
            await stack.enter_async_context(background(f"writer-{number}", recorder.write))
        add_InteractionServiceServicer_to_server(InteractionService(recorder, metrics, budget_s=budget_s), server.grpc)
        port = await server.start("127.0.0.1:0")
        stack.push_async_callback(server.drain, 1)
        channel = await stack.enter_async_context(aio.insecure_channel(f"127.0.0.1:{port}"))
        await until(database.ready.is_set)
        yield Ingestion(InteractionServiceStub(channel), database, recorder, outbox)
