"""`python -m bridge`: start the gateway, and end it cleanly on SIGTERM or Ctrl-C."""

import argparse
import asyncio
import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Final

import psycopg
import structlog
import uvloop

from bridge.app.admin_commands import run_dead_letters, run_erase, run_migrate, run_topics
from bridge.app.feed import open_feed
from bridge.app.ingestion import KafkaPolicy, open_ingestion
from bridge.app.secrets import Secrets, on_loop
from bridge.ingest.interaction_service import InteractionService
from bridge.ingest.transactional_write import TransactionalWriter
from bridge.playback.position_sync import PositionSync
from bridge.playback.service import PlaybackService
from bridge.postgres.pool import Database
from bridge.recsvc_client.channel import open_channel
from bridge.settings import BridgeSettings
from servicekit.configuration.arguments import identifier
from servicekit.configuration.settings import fail
from servicekit.credentials.renewal import Renewals
from servicekit.credentials.tls_files import server_credentials
from servicekit.process.listening import naming_the_holder, wait_until_free
from servicekit.process.termination import aio_termination
from servicekit.server.grpc_server import AioServer
from servicekit.telemetry.logs import configure_logs
from servicekit.telemetry.metrics import Metrics, connect_metrics
from videowindow.feed.v1 import feed_pb2_grpc, interaction_pb2_grpc, playback_pb2_grpc

SERVICES: Final = (
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


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m bridge",
        description="Serve the feed and take in interactions over gRPC.",
        epilog="environment:\n" + BridgeSettings.describe(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=["serve", "migrate", "topics", "erase", "dead-letters", "replay"],
        default="serve",
        help="serve (default); or, and end: migrate brings the database schema up to date, topics makes or checks the"
        " Kafka topics, erase forgets a user, dead-letters shows what could not be processed, and replay sends it"
        " again",
    )
    parser.add_argument("--user", type=identifier, metavar="ID", help="the user to erase")
    parser.add_argument("--dry-run", action="store_true", help="erase: print what would be deleted, and delete nothing")
    parser.add_argument("--force", action="store_true", help="erase: go on where nothing is known of the user")
    arguments = parser.parse_args()
    command: str = arguments.command
    if (command == "erase") is not bool(arguments.user):
        parser.error("erase needs --user ID" if command == "erase" else "--user goes with erase only")
    if (arguments.dry_run or arguments.force) and command != "erase":
        parser.error("--dry-run and --force go with erase only")
    settings = BridgeSettings.load()
    configure_logs(settings.log_level, service="bridge")
    try:
        if command == "migrate":
            run_migrate(settings)
        elif command == "topics":
            sys.exit(run_topics(settings))
        elif command == "erase":
            sys.exit(run_erase(settings, arguments.user, dry_run=arguments.dry_run, force=arguments.force))
        elif command in ("dead-letters", "replay"):
            sys.exit(run_dead_letters(settings, replay=command == "replay"))
        else:
            wait_until_free(settings.bridge_listen)
            uvloop.run(serve(settings))
    except psycopg.OperationalError as error:
        fail(" ".join(str(error).split()))
    except (OSError, RuntimeError, ValueError) as error:
        fail(str(error))


async def serve(settings: BridgeSettings) -> None:
    """Serve until told to stop; what was opened last is closed first, and the server stops before all else."""
    stopping = aio_termination()
    # One that hangs, in a lookup or on a disk, must leave enough for all others: by default there are few on few cores.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="beside"))
    async with AsyncExitStack() as stack:
        metrics = connect_metrics(settings.dd_agent_host, settings.dd_dogstatsd_port, service="bridge")
        stack.callback(metrics.close)
        identity = server_credentials(settings.bridge_listen, settings.tls())
        renewals = stack.enter_context(Renewals(metrics))
        secrets = Secrets(settings, renewals)
        server = AioServer(SERVICES)
        server.report(LIGHTFM, serving=True)
        database = Database(
            secrets.database_url,
            connections=settings.database_connections,
            tell_health=lambda usable: server.report(SCHEMA, serving=usable),
        )
        await database.open()
        stack.push_async_callback(database.close)
        if secrets.database:
            secrets.database.subscribe(on_loop(lambda _: database.renew()))
        feed = await stack.enter_async_context(
            open_feed(settings, secrets, database, metrics, lambda serving: server.report(LIGHTFM, serving=serving))
        )
        ingestion = await stack.enter_async_context(
            open_ingestion(
                database,
                _kafka_policy(settings, secrets),
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
        with naming_the_holder(settings.bridge_listen):
            port = await server.start(settings.bridge_listen, identity)
        stack.push_async_callback(server.drain, settings.bridge_drain_grace_s, lame_duck_s=settings.bridge_lame_duck_s)
        logger.info("server.listening", address=settings.bridge_listen, port=port)

        if not await ingestion.warm(settings.kafka_warm_up_s):
            logger.warning("kafka.unreachable", brokers=settings.kafka_bootstrap_servers)
        if not await feed.replica_set.warm_up(WARM_UP_S):
            logger.warning("lightfm.unreachable", endpoint=settings.lightfm_grpc_endpoint)
        gc.collect()
        gc.freeze()  # what lives as long as the program need not be looked at again by each collection
        gc.set_threshold(GC_THRESHOLD)
        await server.set_serving(serving=True)
        await stopping.wait()
        logger.info("server.draining")
    logger.info("server.stopped")


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


if __name__ == "__main__":
    main()
