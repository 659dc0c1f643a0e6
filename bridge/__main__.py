"""`python -m bridge`: start the gateway, and end it cleanly on SIGTERM or Ctrl-C."""

import argparse
import asyncio
import gc
import random
import time
from contextlib import AsyncExitStack
from typing import Final

import psycopg
import structlog

from bridge.analytics import Analytics
from bridge.background import background
from bridge.breaker import Breaker, BreakerPolicy
from bridge.breaker_report import report_breaker
from bridge.budget import BudgetPolicy, RetryBudget
from bridge.database import Database
from bridge.experiments import Experiments, load_experiment
from bridge.feed import Feed
from bridge.feed_cache import FeedCache
from bridge.feed_service import FeedService
from bridge.fleet import Fleet
from bridge.heard import InteractionListener
from bridge.hedge import Hedge, HedgePolicy
from bridge.identity import KeyFile, NamedViewers, TokenViewers, Viewers
from bridge.ingestion import KafkaPolicy, open_ingestion
from bridge.interaction_service import InteractionService
from bridge.limiter import Limiter, LimiterPolicy
from bridge.page import PageListener
from bridge.playback_service import PlaybackService
from bridge.resilience import Resilience
from bridge.schema import migrate
from bridge.seen import SeenVideos
from bridge.segment import SegmentSender
from bridge.settings import BridgeSettings
from bridge.trending import TrendingBoard
from bridge.trending_ranking import TrendingPolicy
from bridge.trending_refresher import TrendingRefresher
from servicekit.credentials import server_credentials
from servicekit.lifecycle import AioServer, aio_termination
from servicekit.logs import configure_logs
from servicekit.settings import fail
from servicekit.telemetry import Metrics, connect_metrics
from videowindow.feed.v1 import feed_pb2_grpc, interaction_pb2_grpc, playback_pb2_grpc

SERVICES: Final = (
    "videowindow.feed.v1.FeedService",
    "videowindow.feed.v1.InteractionService",
    "videowindow.feed.v1.PlaybackService",
)
WARM_UP_S: Final = 2.0

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
        choices=["serve", "migrate"],
        default="serve",
        help="serve (default), or bring the database schema up to date and end",
    )
    command = parser.parse_args().command
    settings = BridgeSettings.load()
    configure_logs(settings.log_level, service="bridge")
    try:
        if command == "migrate":
            migrate(settings.database_url)
        else:
            asyncio.run(serve(settings))
    except psycopg.OperationalError as error:
        fail(" ".join(str(error).split()))
    except (OSError, RuntimeError, ValueError) as error:
        fail(str(error))


async def serve(settings: BridgeSettings) -> None:
    """Serve until told to stop; what was opened last is closed first, and the server stops before all else."""
    stopping = aio_termination()
    async with AsyncExitStack() as stack:
        metrics = connect_metrics(settings.dd_agent_host, settings.dd_dogstatsd_port, service="bridge")
        stack.callback(metrics.close)
        tls = settings.tls()
        credentials = server_credentials(settings.bridge_listen, tls)
        fleet = Fleet(settings.lightfm_grpc_endpoint, tls)
        stack.push_async_callback(fleet.close)
        await stack.enter_async_context(background("replicas", fleet.keep_resolved))
        database = Database(settings.database_url, connections=settings.database_connections)
        await database.open()
        stack.push_async_callback(database.close)
        board = await _keep_trending(settings, database, stack)
        seen = SeenVideos()
        pages, _ = await _open_listeners(settings, database, metrics, stack)
        ingestion = await stack.enter_async_context(open_ingestion(database, _kafka_policy(settings), metrics))

        server = AioServer(SERVICES)
        feed_service = FeedService(
            Feed(fleet.lightfm, _resilience(settings, metrics), board),
            board,
            metrics,
            time.monotonic,
            budget_s=settings.lightfm_budget_ms / 1000,
            viewers=await _viewers(settings, stack),
            experiments=_experiments(settings),
            seen=seen,
            listeners=pages,
        )
        interaction_service = InteractionService(
            ingestion.recorder, metrics, budget_s=settings.interaction_budget_ms / 1000
        )
        feed_pb2_grpc.add_FeedServiceServicer_to_server(feed_service, server.grpc)
        interaction_pb2_grpc.add_InteractionServiceServicer_to_server(interaction_service, server.grpc)
        playback_pb2_grpc.add_PlaybackServiceServicer_to_server(PlaybackService(), server.grpc)
        port = await server.start(settings.bridge_listen, credentials)
        stack.push_async_callback(server.drain, settings.bridge_drain_grace_s)
        logger.info("server.listening", address=settings.bridge_listen, port=port)

        if not await ingestion.warm(settings.kafka_warm_up_s):
            logger.warning("kafka.unreachable", brokers=settings.kafka_bootstrap_servers)
        if not await fleet.warm_up(WARM_UP_S):
            logger.warning("lightfm.unreachable", endpoint=settings.lightfm_grpc_endpoint)
        gc.collect()
        gc.freeze()  # what lives as long as the program need not be looked at again by each collection
        await server.set_serving(serving=True)
        await stopping.wait()
        logger.info("server.draining")
    logger.info("server.stopped")


def _resilience(settings: BridgeSettings, metrics: Metrics) -> Resilience:
    policy = BreakerPolicy(
        consecutive_failures=settings.breaker_failures,
        failure_ratio=settings.breaker_failure_ratio,
        open_s=settings.breaker_open_s,
    )
    breaker = Breaker(policy, time.monotonic, report_breaker(metrics))
    limiter = Limiter(LimiterPolicy(), time.monotonic)
    return Resilience(breaker, limiter, RetryBudget(BudgetPolicy()), hedge=Hedge(HedgePolicy()), backoff=_backoff)


def _backoff(retry: int) -> float:
    """Return 5 to 10 ms before the first retry, 10 to 20 ms before the second."""
    return retry * random.uniform(0.005, 0.010)  # noqa: S311  # jitter


async def _viewers(settings: BridgeSettings, stack: AsyncExitStack) -> Viewers:
    if settings.viewer_keys_path is None:
        return NamedViewers()
    keys = KeyFile(settings.viewer_keys_path)
    await stack.enter_async_context(background("viewer-keys", keys.keep_fresh))
    return TokenViewers(keys, settings.token_policy(), anonymous=settings.anonymous_viewers)


def _experiments(settings: BridgeSettings) -> Experiments:
    if settings.experiment_path is None:
        return Experiments()
    experiment = load_experiment(settings.experiment_path)
    logger.info("experiment.running", id=experiment.id, variants=[variant.id for variant in experiment.variants])
    return Experiments(experiment)


async def _keep_trending(settings: BridgeSettings, database: Database, stack: AsyncExitStack) -> TrendingBoard:
    board = TrendingBoard()
    refresher = TrendingRefresher(
        board,
        database,
        TrendingPolicy(
            half_life_s=settings.trending_half_life_h * 3600,
            window_s=settings.trending_window_h * 3600,
            most=settings.trending_videos,
        ),
        path=settings.trending_snapshot_path,
        interval_s=settings.trending_interval_s,
    )
    refresher.restore()
    await stack.enter_async_context(background("schema", database.keep_schema))
    await stack.enter_async_context(background("trending", refresher.keep_fresh))
    return board


async def _open_listeners(
    settings: BridgeSettings, database: Database, metrics: Metrics, stack: AsyncExitStack
) -> tuple[list[PageListener], list[InteractionListener]]:
    """Return who is told of served pages, and of interactions."""
    cache = FeedCache(database, metrics)
    await stack.enter_async_context(background("feed-cache", cache.keep_writing))
    if settings.segment_write_key is None:
        return [cache.add], []
    sender = SegmentSender(settings.segment_write_key.get_secret_value(), metrics, url=settings.segment_url)
    stack.push_async_callback(asyncio.to_thread, sender.close, flush_s=settings.segment_flush_s)
    analytics = Analytics(sender)
    return [cache.add, analytics.page_served], [analytics.consumed]


def _kafka_policy(settings: BridgeSettings) -> KafkaPolicy | None:
    if not settings.kafka_bootstrap_servers:
        return None
    return KafkaPolicy(client=settings.kafka_client(), stall_s=settings.kafka_stall_s, flush_s=settings.kafka_flush_s)


if __name__ == "__main__":
    main()
