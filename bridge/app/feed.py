"""Puts the parts of the feed together and keeps their background work running."""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from secrets import token_bytes
from typing import Final

import structlog

from bridge.analytics.segment_events import Analytics
from bridge.analytics.segment_sender import SegmentSender
from bridge.analytics.served_pages import ServedPageLog
from bridge.app.breaker_report import report_breaker
from bridge.app.secrets import Secrets, on_loop
from bridge.authentication.authenticator import KeyFile, TokenUsers, TrustedCallers, Users
from bridge.background.supervision import background
from bridge.domain.interaction import InteractionListener
from bridge.domain.page import PageListener
from bridge.feed.experiments import Experiments, load_experiment
from bridge.feed.page_token import MIN_KEY_BYTES, PageTokens
from bridge.feed.page_token_keys import SharedKeys
from bridge.feed.seen_loader import SeenLoader
from bridge.feed.seen_videos import SeenVideos
from bridge.feed.service import FeedService
from bridge.postgres.pool import Database
from bridge.recsvc_client.circuit_breaker import Breaker, BreakerPolicy
from bridge.recsvc_client.client import RecsvcClient
from bridge.recsvc_client.concurrency_limit import Limiter, LimiterPolicy
from bridge.recsvc_client.hedging import Hedge, HedgePolicy
from bridge.recsvc_client.replicas import ReplicaSet
from bridge.recsvc_client.retry_budget import BudgetPolicy, RetryBudget
from bridge.settings import BridgeSettings
from bridge.trending.query import TrendingPolicy
from bridge.trending.ranking import CurrentTrending
from bridge.trending.refresher import TrendingRefresher
from bridge.trending.roller import CountingPolicy, Roller
from servicekit.grpc.request_checks import MAX_PAGE_SIZE
from servicekit.telemetry.metrics import Metric, Metrics

REPORT_S: Final = 10.0

TRENDING_WARM_UP_S: Final = 2.0
"""Seconds that the first ranking gets before the server opens: a page must be full from the first call on."""

TOKEN_KEYS_FILE: Final = "page_token_keys.json"  # noqa: S105  # a name
"""Beside the trending snapshot."""

logger = structlog.get_logger("bridge")


@dataclass(frozen=True, slots=True)
class FeedParts:
    """The parts of the feed.

    Attributes:
        service: Its RPCs.
        replica_set: The replicas of recsvc.
        listeners: Called with each interaction.
    """

    service: FeedService
    replica_set: ReplicaSet
    listeners: Sequence[InteractionListener]


@asynccontextmanager
async def open_feed(
    settings: BridgeSettings,
    secrets: Secrets,
    database: Database,
    metrics: Metrics,
    tell_health: Callable[[bool], None],
) -> AsyncIterator[FeedParts]:
    """Run what the feed needs until the block ends; the database is the caller's to open and close.

    Args:
        settings: What is wanted.
        secrets: To be known by, as they are renewed.
        database: For trending and for served pages.
        metrics: Where all report to.
        tell_health: Told whether calls to LightFM pass.
    """
    async with AsyncExitStack() as stack:
        breaker = _breaker(settings, metrics, tell_health)
        client = await _client(breaker, metrics, stack)
        replica_set = await _replica_set(client, breaker, settings, secrets, stack)
        await stack.enter_async_context(background("schema", database.keep_schema))
        tokens = PageTokens([token_bytes(MIN_KEY_BYTES)])
        board, _ = await asyncio.gather(
            _keep_trending(settings, database, metrics, stack), _keep_tokens(tokens, settings, database, metrics, stack)
        )
        seen = SeenVideos()
        loader = SeenLoader(database, seen, metrics=metrics)
        await stack.enter_async_context(background("seen", loader.keep_loading))
        pages, listeners = await _open_listeners(settings, secrets, database, metrics, stack)
        service = FeedService(
            client,
            board,
            metrics,
            time.monotonic,
            budget_s=settings.lightfm_budget_ms / 1000,
            users=await _users(settings, metrics, stack),
            experiments=_experiments(settings),
            seen=seen,
            tokens=tokens,
            listeners=[loader.note, *pages],
        )
        yield FeedParts(service, replica_set, [seen.note, *listeners])


async def _replica_set(
    client: RecsvcClient, breaker: Breaker, settings: BridgeSettings, secrets: Secrets, stack: AsyncExitStack
) -> ReplicaSet:
    """Return the replicas of recsvc, followed as they move and as this program's identity is renewed."""
    replica_set = ReplicaSet(
        client,
        settings.lightfm_grpc_endpoint,
        secrets.tls.current if secrets.tls else None,
        connections=settings.lightfm_connections,
        on_connected=breaker.allow_probe,
    )
    stack.push_async_callback(replica_set.close)
    await stack.enter_async_context(background("replicas", replica_set.keep_resolved))
    if secrets.tls:
        secrets.tls.subscribe(on_loop(replica_set.renew))
        await stack.enter_async_context(background("identity", replica_set.keep_renewed))
    return replica_set


def _breaker(settings: BridgeSettings, metrics: Metrics, tell_health: Callable[[bool], None]) -> Breaker:
    policy = BreakerPolicy(
        consecutive_failures=settings.breaker_failures,
        failure_ratio=settings.breaker_failure_ratio,
        open_s=settings.breaker_open_s,
    )
    return Breaker(policy, time.monotonic, report_breaker(metrics, tell_health))


async def _client(breaker: Breaker, metrics: Metrics, stack: AsyncExitStack) -> RecsvcClient:
    limiter = Limiter(LimiterPolicy(), time.monotonic)

    async def report() -> None:
        while True:
            metrics.gauge(Metric.CONCURRENCY_LIMIT, limiter.limit)
            metrics.gauge(Metric.BREAKER_STATE, breaker.state.value)
            await asyncio.sleep(REPORT_S)

    await stack.enter_async_context(background("feed-report", report))
    hedge = Hedge(HedgePolicy())
    return RecsvcClient(breaker, limiter, RetryBudget(BudgetPolicy()), hedge=hedge, backoff=_backoff)


def _backoff(retry: int) -> float:
    """Return 5 to 10 ms before the first retry, 10 to 20 ms before the second."""
    return retry * random.uniform(0.005, 0.010)  # noqa: S311  # jitter


async def _users(settings: BridgeSettings, metrics: Metrics, stack: AsyncExitStack) -> Users:
    if settings.user_keys_path is None:
        return TrustedCallers()
    keys = KeyFile(settings.user_keys_path, metrics=metrics)
    await stack.enter_async_context(background("user-keys", keys.keep_fresh))
    return TokenUsers(keys, settings.token_policy(), anonymous=settings.anonymous_users, metrics=metrics)


def _experiments(settings: BridgeSettings) -> Experiments:
    if settings.experiment_path is None:
        return Experiments()
    experiment = load_experiment(settings.experiment_path)
    logger.info("experiment.running", id=experiment.id, variants=[variant.id for variant in experiment.variants])
    return Experiments(experiment)


def trending_policy(settings: BridgeSettings) -> TrendingPolicy:
    """Return how videos are ranked."""
    return TrendingPolicy(most=settings.trending_videos, unknown_videos=settings.trending_unknown_videos)


def counting_policy(settings: BridgeSettings) -> CountingPolicy:
    """Return how deeds are counted."""
    return CountingPolicy(
        window_h=math.ceil(settings.trending_window_h),
        half_life_s=settings.trending_half_life_h * 3600,
        enough=MAX_PAGE_SIZE,
    )


async def _keep_trending(
    settings: BridgeSettings, database: Database, metrics: Metrics, stack: AsyncExitStack
) -> CurrentTrending:
    board = CurrentTrending()
    refresher = TrendingRefresher(
        board,
        database,
        trending_policy(settings),
        path=settings.trending_snapshot_path,
        interval_s=settings.trending_interval_s,
        metrics=metrics,
    )
    refresher.restore()
    roller = Roller(database, counting_policy(settings), metrics=metrics)
    await stack.enter_async_context(background("trending-counts", roller.run))
    await stack.enter_async_context(background("trending", refresher.keep_fresh))
    if not await refresher.warm_up(TRENDING_WARM_UP_S):
        logger.warning("trending.empty")
    return board


async def _keep_tokens(
    tokens: PageTokens, settings: BridgeSettings, database: Database, metrics: Metrics, stack: AsyncExitStack
) -> None:
    """Give page tokens their keys: those of the settings, or those that bridges share."""
    if keys := settings.token_keys():
        tokens.use(keys)
        return
    path = settings.trending_snapshot_path.with_name(TOKEN_KEYS_FILE)
    shared = SharedKeys(tokens, database, path, metrics=metrics)
    shared.restore()
    await stack.enter_async_context(background("page-token-keys", shared.keep_fresh))
    if not await shared.warm_up(TRENDING_WARM_UP_S):
        logger.warning(
            "page_token_keys.not_shared", consequence="other bridges refuse this one's tokens, until they are"
        )


async def _open_listeners(
    settings: BridgeSettings, secrets: Secrets, database: Database, metrics: Metrics, stack: AsyncExitStack
) -> tuple[list[PageListener], list[InteractionListener]]:
    """Return the listeners of served pages, and those of interactions."""
    cache = ServedPageLog(database, metrics)
    await stack.enter_async_context(background("feed-cache", cache.keep_writing))
    if settings.segment_write_key is None:
        return [cache.add], []
    sender = SegmentSender(settings.segment_write_key.get_secret_value(), metrics, url=settings.segment_url)
    if secrets.segment:
        secrets.segment.subscribe(sender.renew)
    stack.push_async_callback(asyncio.to_thread, sender.close, flush_s=settings.segment_flush_s)
    analytics = Analytics(sender)
    return [cache.add, analytics.page_served], [analytics.consumed]
