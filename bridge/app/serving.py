"""Opens the gateway's parts in order, serves until told to stop, and closes them in reverse order."""

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Final

import structlog

from bridge.app.catalogue import open_catalogue, open_hidden
from bridge.app.feed import FeedParts, open_feed
from bridge.app.ingestion import Ingestion, KafkaPolicy, open_ingestion
from bridge.app.secrets import Secrets, on_loop
from bridge.ingest.interaction_service import InteractionService
from bridge.ingest.transactional_write import TransactionalWriter
from bridge.playback.position_sync import PositionSync
from bridge.playback.service import PlaybackService
from bridge.postgres.pool import Database
from bridge.recsvc_client.channel import open_channel
from bridge.settings import BridgeSettings
from servicekit.credentials.renewal import Renewals
from servicekit.credentials.tls_files import server_credentials
from servicekit.process.listening import naming_the_holder
from servicekit.process.termination import aio_termination
from servicekit.server.grpc_server import AioServer
from servicekit.telemetry.metrics import Metrics, connect_metrics
from videowindow.feed.v1 import catalogue_pb2_grpc, feed_pb2_grpc, interaction_pb2_grpc, playback_pb2_grpc

SERVICES: Final = (
    "videowindow.feed.v1.CatalogueService",
    "videowindow.feed.v1.FeedService",
    "videowindow.feed.v1.InteractionService",
    "videowindow.feed.v1.PlaybackService",
)
LIGHTFM: Final = "lightfm"
"""Health knows the circuit breaker by this name: NOT_SERVING while it is open."""
SCHEMA: Final = "schema"
"""Health knows the database schema by this name: NOT_SERVING while it, or a right to it, keeps interactions out."""
GC_THRESHOLD: Final = 20_000
"""Objects between two collections: with the default of 700 there is one every few calls."""
WARM_UP_S: Final = 2.0
THREADS: Final = 32
"""For what would block the event loop; they are made as they are needed."""

logger = structlog.get_logger("bridge")


async def serve(settings: BridgeSettings) -> None:
    """Serve until told to stop; stop the server first, then close the parts in reverse order."""
    stopping = aio_termination()
    # One that hangs, in a lookup or on a disk, must leave enough for all others: by default there are few on few cores.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="beside"))
    async with AsyncExitStack() as stack:
        metrics = connect_metrics(settings.dd_agent_host, settings.dd_dogstatsd_port, service="bridge")
        stack.callback(metrics.close)
        identity = server_credentials(settings.bridge_listen, settings.tls())
        secrets = Secrets(settings, stack.enter_context(Renewals(metrics)))
        server = AioServer(SERVICES)
        feed, ingestion = await _open_services(server, settings, secrets, metrics, stack)
        with naming_the_holder(settings.bridge_listen):
            port = await server.start(settings.bridge_listen, identity)
        stack.push_async_callback(server.drain, settings.bridge_drain_grace_s, lame_duck_s=settings.bridge_lame_duck_s)
        logger.info("server.listening", address=settings.bridge_listen, port=port)
        await _warm_up(settings, feed, ingestion)
        await server.set_serving(serving=True)
        await stopping.wait()
        logger.info("server.draining")
    logger.info("server.stopped")


async def _open_services(
    server: AioServer, settings: BridgeSettings, secrets: Secrets, metrics: Metrics, stack: AsyncExitStack
) -> tuple[FeedParts, Ingestion]:
    """Open the services, and add them to the server."""
    server.report(LIGHTFM, serving=True)
    database = await _open_database(server, settings, secrets, stack)
    hidden = await stack.enter_async_context(open_hidden(settings.trending_snapshot_path, metrics))
    feed = await stack.enter_async_context(
        open_feed(
            settings,
            secrets,
            database,
            metrics,
            lambda serving: server.report(LIGHTFM, serving=serving),
            hidden=hidden,
        )
    )
    kafka = _kafka_policy(settings, secrets)
    ingestion = await stack.enter_async_context(
        open_ingestion(
            database,
            kafka,
            metrics,
            feed.listeners,
            order_wait_s=settings.interaction_order_wait_s,
            event_id_days=settings.event_id_days,
        )
    )
    interaction_service = InteractionService(
        ingestion.recorder, ingestion.feedback, metrics, budget_s=settings.interaction_budget_ms / 1000
    )
    server.add(feed_pb2_grpc.add_FeedServiceServicer_to_server, feed.service)
    server.add(interaction_pb2_grpc.add_InteractionServiceServicer_to_server, interaction_service)
    playback = _playback(settings, secrets, ingestion.writer, metrics, stack)
    server.add(playback_pb2_grpc.add_PlaybackServiceServicer_to_server, playback)
    catalogue = await stack.enter_async_context(open_catalogue(hidden, database, ingestion, kafka, metrics))
    server.add(catalogue_pb2_grpc.add_CatalogueServiceServicer_to_server, catalogue)
    return feed, ingestion


async def _open_database(
    server: AioServer, settings: BridgeSettings, secrets: Secrets, stack: AsyncExitStack
) -> Database:
    """Open the database, and report the state of its schema as a part of health."""
    database = Database(
        secrets.database_url,
        connections=settings.database_connections,
        tell_health=lambda usable: server.report(SCHEMA, serving=usable),
    )
    await database.open()
    stack.push_async_callback(database.close)
    if secrets.database:
        secrets.database.subscribe(on_loop(lambda _: database.renew()))
    return database


async def _warm_up(settings: BridgeSettings, feed: FeedParts, ingestion: Ingestion) -> None:
    """Connect to Kafka and recsvc before the first caller comes."""
    if not await ingestion.warm(settings.kafka_warm_up_s):
        logger.warning("kafka.unreachable", brokers=settings.kafka_bootstrap_servers)
    if not await feed.replica_set.warm_up(WARM_UP_S):
        logger.warning("lightfm.unreachable", endpoint=settings.lightfm_grpc_endpoint)
    gc.collect()
    gc.freeze()  # what lives as long as the program need not be looked at again by each collection
    gc.set_threshold(GC_THRESHOLD)


def _playback(
    settings: BridgeSettings, secrets: Secrets, writer: TransactionalWriter, metrics: Metrics, stack: AsyncExitStack
) -> PlaybackService:
    positions = None
    if endpoint := settings.position_sync_endpoint:
        tls = secrets.tls
        positions = PositionSync(open_channel(endpoint, tls.current if tls else None), metrics)
        stack.push_async_callback(positions.close)
        if tls:
            tls.subscribe(on_loop(lambda identity: positions.use(open_channel(endpoint, identity))))
    return PlaybackService(writer, budget_s=settings.interaction_budget_ms / 1000, positions=positions)


def _kafka_policy(settings: BridgeSettings, secrets: Secrets) -> KafkaPolicy | None:
    if secrets.kafka is None:
        return None
    return KafkaPolicy(
        client=secrets.kafka.current,
        renewed=secrets.kafka,
        stall_s=settings.kafka_stall_s,
        flush_s=settings.kafka_flush_s,
        features_interval_s=settings.features_interval_s,
    )
