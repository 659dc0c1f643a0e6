"""A bridge in this process with catalogue and feed, in front of a recsvc that knows nothing of what is hidden."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from grpc import aio

from bridge.app.catalogue import open_catalogue, open_hidden
from bridge.app.ingestion import KafkaPolicy, open_ingestion
from bridge.background.supervision import background
from bridge.domain.page import RankedVideo
from bridge.feed.page_token import PageTokens
from bridge.feed.service import FeedService
from bridge.postgres.pool import Database
from bridge.recsvc_client.channel import open_channel
from bridge.recsvc_client.circuit_breaker import Breaker, BreakerPolicy
from bridge.recsvc_client.client import RecsvcClient
from bridge.recsvc_client.concurrency_limit import Limiter, LimiterPolicy
from bridge.recsvc_client.retry_budget import BudgetPolicy, RetryBudget
from bridge.trending.ranking import CurrentTrending, Trending, TrendingVideo
from bridge.visibility.hidden import Hidden
from servicekit.server.grpc_server import AioServer
from servicekit.telemetry.metrics import Metrics, NoMetrics
from tests.bridge.support.waiting import until
from videowindow.feed.v1 import catalogue_pb2 as cpb
from videowindow.feed.v1 import feed_pb2 as pb
from videowindow.feed.v1.catalogue_pb2_grpc import CatalogueServiceStub, add_CatalogueServiceServicer_to_server
from videowindow.feed.v1.feed_pb2_grpc import FeedServiceStub, add_FeedServiceServicer_to_server

TOKENS = PageTokens([bytes(32)])
"""As all bridges of a fleet share them."""
TRENDING = [TrendingVideo(ranked=RankedVideo(f"t{n:03}", 100.0 - n), author_id=f"ta{n % 10}") for n in range(60)]


@dataclass
class CatalogueBridge:
    """A running bridge."""

    catalogue: Any
    feed: Any
    hidden: Hidden
    database: Database

    async def page(self, **fields: Any) -> pb.GetRecommendationsResponse:
        """Ask for a page of five."""
        request = pb.GetRecommendationsRequest(**{"user_id": "u1", "page_size": 5, **fields})
        reply: pb.GetRecommendationsResponse = await self.feed.GetRecommendations(request, timeout=5)
        return reply

    async def ids(self, **fields: Any) -> list[str]:
        """Return the videos of a page of five."""
        return [video.video_id for video in (await self.page(**fields)).videos]

    async def trending(self, **fields: Any) -> list[str]:
        """Return the videos of a trending page."""
        reply = await self.feed.GetTrending(pb.GetTrendingRequest(page_size=5, **fields), timeout=5)
        return [video.video_id for video in reply.videos]

    async def upsert(self, *videos: cpb.CatalogueVideo) -> Sequence[cpb.UpsertResult]:
        """Store videos."""
        reply = await self.catalogue.UpsertVideos(cpb.UpsertVideosRequest(videos=videos), timeout=20)
        results: Sequence[cpb.UpsertResult] = reply.results
        return results

    async def hide(self, *video_ids: str, timeout_s: float = 20, **fields: Any) -> Sequence[cpb.HideResult]:
        """Hide videos."""
        request = cpb.HideVideosRequest(**{"video_ids": video_ids, "reason": "rights", "actor": "ann", **fields})
        results: Sequence[cpb.HideResult] = (await self.catalogue.HideVideos(request, timeout=timeout_s)).results
        return results

    async def hide_authors(self, *author_ids: str) -> Sequence[cpb.HideResult]:
        """Hide authors."""
        request = cpb.HideAuthorsRequest(author_ids=author_ids, reason="spam", actor="ann")
        results: Sequence[cpb.HideResult] = (await self.catalogue.HideAuthors(request, timeout=20)).results
        return results

    async def restore(self, video_id: str, revision: int) -> cpb.RestoreResult:
        """Lift a video's hide."""
        restoration = cpb.Restoration(id=video_id, hide_revision=revision)
        request = cpb.RestoreVideosRequest(restorations=[restoration], reason="appeal", actor="bob")
        result: cpb.RestoreResult = (await self.catalogue.RestoreVideos(request, timeout=20)).results[0]
        return result

    async def restore_author(self, author_id: str, revision: int) -> cpb.RestoreResult:
        """Lift an author's hide."""
        restoration = cpb.Restoration(id=author_id, hide_revision=revision)
        request = cpb.RestoreAuthorsRequest(restorations=[restoration], reason="appeal", actor="bob")
        result: cpb.RestoreResult = (await self.catalogue.RestoreAuthors(request, timeout=20)).results[0]
        return result

    async def get(self, video_id: str) -> cpb.StoredVideo:
        """Return what is stored of a video."""
        reply = await self.catalogue.GetVideo(cpb.GetVideoRequest(video_id=video_id), timeout=20)
        stored: cpb.StoredVideo = reply.video
        return stored

    async def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return what a query finds."""
        async with self.database.connection() as connection:
            return await (await connection.execute(query, parameters)).fetchall()

    def hides(self, *video_ids: str) -> bool:
        """Return whether it keeps all these videos from pages."""
        bars = self.hidden.bars("")
        return all(bars(one, "") for one in video_ids)

    def shows(self, *video_ids: str) -> bool:
        """Return whether it keeps none of them from pages."""
        bars = self.hidden.bars("")
        return not any(bars(one, "") for one in video_ids)

    async def until_hidden(self, *video_ids: str) -> None:
        """Return once it keeps all these videos from pages."""
        await until(lambda: self.hides(*video_ids))

    async def until_shown(self, *video_ids: str) -> None:
        """Return once it keeps none of them from pages."""
        await until(lambda: self.shows(*video_ids))


@asynccontextmanager
async def running_catalogue(
    url: str,
    bootstrap: str | None,
    folder: Path,
    recsvc: str,
    *,
    metrics: Metrics | None = None,
    wait_for_schema: bool = True,
) -> AsyncIterator[CatalogueBridge]:
    """Run a bridge until the block ends; without Kafka where no bootstrap is given."""
    metrics = metrics or NoMetrics()
    server = AioServer(["videowindow.feed.v1.FeedService", "videowindow.feed.v1.CatalogueService"])
    async with AsyncExitStack() as stack:
        database = Database(url)
        await database.open()
        stack.push_async_callback(database.close)
        await stack.enter_async_context(background("schema", database.keep_schema))
        if wait_for_schema:
            await until(database.ready.is_set)
        kafka = None
        if bootstrap is not None:
            client = {"bootstrap.servers": bootstrap}
            kafka = KafkaPolicy(client=client, flush_s=0.1, group=f"backfill-{uuid4()}")
        hidden = await stack.enter_async_context(open_hidden(folder / "trending.json", metrics))
        ingestion = await stack.enter_async_context(open_ingestion(database, kafka, metrics, order_wait_s=0))
        service = await stack.enter_async_context(open_catalogue(hidden, database, ingestion, kafka, metrics))
        channel = await stack.enter_async_context(open_channel(recsvc, None))
        server.add(add_CatalogueServiceServicer_to_server, service)
        server.add(add_FeedServiceServicer_to_server, _feed(channel, hidden, metrics))
        port = await server.start("127.0.0.1:0")
        stack.push_async_callback(server.drain, 1)
        own = await stack.enter_async_context(aio.insecure_channel(f"127.0.0.1:{port}"))
        await own.channel_ready()
        yield CatalogueBridge(CatalogueServiceStub(own), FeedServiceStub(own), hidden, database)


def _feed(recsvc: aio.Channel, hidden: Hidden, metrics: Metrics) -> FeedService:
    board = CurrentTrending()
    board.current = Trending(datetime.now(UTC), TRENDING)
    client = RecsvcClient(
        Breaker(BreakerPolicy(), time.monotonic, lambda _, __: None),
        Limiter(LimiterPolicy(least=100), time.monotonic),
        RetryBudget(BudgetPolicy()),
        channels=[recsvc],
        backoff=lambda _: 0.005,
    )
    return FeedService(client, board, metrics, time.monotonic, budget_s=2.0, tokens=TOKENS, hidden=hidden)
