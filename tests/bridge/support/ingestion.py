"""The ingestion half of a bridge, in this process, with its peers given."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from grpc import aio

from bridge.app.ingestion import KafkaPolicy, open_ingestion
from bridge.background.supervision import background
from bridge.ingest.interaction_service import InteractionService
from bridge.ingest.recorder import Recorder
from bridge.kafka.producer import PRODUCER
from bridge.kafka.publisher import KafkaPublisher
from bridge.outbox.outbox import Outbox
from bridge.outbox.relay import Relay
from bridge.playback.position_sync import PositionListener
from bridge.playback.service import PlaybackService
from bridge.postgres.pool import Database
from servicekit.server.grpc_server import AioServer
from servicekit.telemetry.metrics import Metrics, NoMetrics
from tests.bridge.support.waiting import until
from videowindow.feed.v1.interaction_pb2_grpc import InteractionServiceStub, add_InteractionServiceServicer_to_server
from videowindow.feed.v1.playback_pb2_grpc import PlaybackServiceStub, add_PlaybackServiceServicer_to_server

SERVICES = ("videowindow.feed.v1.InteractionService", "videowindow.feed.v1.PlaybackService")


@dataclass
class Ingestion:
    """A running ingestion service."""

    stub: Any
    playback: Any
    database: Database
    recorder: Recorder
    outbox: Outbox | None
    relay: Relay | None
    publisher: KafkaPublisher | None
    address: str

    def away(self) -> bool:
        """Return whether Postgres is taken to be away."""
        return self.recorder._writer._availability.away

    async def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return what a query finds."""
        async with self.database.connection() as connection:
            return await (await connection.execute(query, parameters)).fetchall()

    async def depth(self) -> int:
        """Return how many rows the outbox has."""
        return int((await self.rows("SELECT count(*) FROM interactions_outbox"))[0][0])


def _policy(bootstrap: str, consumer: dict[str, Any], options: dict[str, Any], stall_s: float) -> KafkaPolicy:
    return KafkaPolicy(
        client={"bootstrap.servers": bootstrap, **consumer},
        options={**PRODUCER, **options},
        flush_s=0.1,
        group=f"backfill-{uuid4()}",
        stall_s=stall_s,
    )


@asynccontextmanager
async def running_ingestion(
    url: str,
    bootstrap: str | None,
    *,
    metrics: Metrics | None = None,
    budget_s: float = 2.0,
    options: dict[str, Any] | None = None,
    consumer: dict[str, Any] | None = None,
    stall_s: float = 15.0,
    wait_for_schema: bool = True,
    order_wait_s: float = 0,
    positions: PositionListener | None = None,
    tell_health: Callable[[bool], None] = lambda _: None,
) -> AsyncIterator[Ingestion]:
    """Run the service until the block ends; without Kafka where no bootstrap is given."""
    metrics = metrics or NoMetrics()
    server = AioServer(SERVICES)
    async with AsyncExitStack() as stack:
        database = Database(url, tell_health=tell_health)
        await database.open()
        stack.push_async_callback(database.close)
        await stack.enter_async_context(background("schema", database.keep_schema))
        policy = _policy(bootstrap, consumer or {}, options or {}, stall_s) if bootstrap is not None else None
        ingestion = await stack.enter_async_context(
            open_ingestion(database, policy, metrics, order_wait_s=order_wait_s)
        )
        recorder, outbox = ingestion.recorder, ingestion.outbox
        interactions = InteractionService(recorder, ingestion.feedback, metrics, budget_s=budget_s)
        server.add(add_InteractionServiceServicer_to_server, interactions)
        playback = PlaybackService(ingestion.writer, budget_s=budget_s, positions=positions)
        server.add(add_PlaybackServiceServicer_to_server, playback)
        port = await server.start("127.0.0.1:0")
        stack.push_async_callback(server.drain, 1)
        channel = await stack.enter_async_context(aio.insecure_channel(f"127.0.0.1:{port}"))
        if wait_for_schema:
            await until(database.ready.is_set)
        yield Ingestion(
            stub=InteractionServiceStub(channel),
            playback=PlaybackServiceStub(channel),
            database=database,
            recorder=recorder,
            outbox=outbox,
            relay=ingestion.relay,
            publisher=ingestion.publisher,
            address=f"127.0.0.1:{port}",
        )
