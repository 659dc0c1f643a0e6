"""FeedService on a server of its own, in front of a recsvc that fails as scripted."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from grpc import aio

from bridge.app.breaker_report import report_breaker
from bridge.authentication.authenticator import Metadata, TrustedCallers
from bridge.domain.page import RankedVideo, ServedPage
from bridge.feed.experiments import Algorithm, Experiment, Experiments, Parameters, Variant
from bridge.feed.seen_videos import SeenVideos
from bridge.feed.service import FeedService
from bridge.recsvc_client.channel import open_channel
from bridge.recsvc_client.circuit_breaker import Breaker, BreakerPolicy
from bridge.recsvc_client.client import RecsvcClient
from bridge.recsvc_client.concurrency_limit import Limiter, LimiterPolicy
from bridge.recsvc_client.retry_budget import BudgetPolicy, RetryBudget
from bridge.trending.ranking import CurrentTrending, Trending, TrendingVideo
from servicekit.server.grpc_server import AioServer
from servicekit.telemetry.metrics import connect_metrics
from tests.bridge.support.clock import FakeClock
from tests.bridge.support.fault_server import CATALOGUE, FaultServer, running_fault_server
from tests.support.dogstatsd import DogStatsdServer
from videowindow.feed.v1 import feed_pb2 as pb
from videowindow.feed.v1.feed_pb2_grpc import FeedServiceStub, add_FeedServiceServicer_to_server

COMPUTED_AT = datetime(2025, 11, 1, 3, tzinfo=UTC)
# Trending shares most videos with LightFM's catalogue, in another order, and has some of its own.
TRENDING = [*CATALOGUE[60:], *CATALOGUE[:30], *(f"t{number:03}" for number in range(30))]


EXPERIMENT = Experiment(
    id="colours",
    variants=(
        Variant(id="blue", share=0, parameters=Parameters(diversity=0.25)),
        Variant(id="red", share=0),
        Variant(id="popular", share=0, algorithm=Algorithm.TRENDING),
    ),
)


class _AnyUsers(TrustedCallers):
    """Lets users be anonymous when the call says so."""

    def user(self, claimed_id: str, metadata: Metadata) -> str | None:
        return None if ("anonymous", "yes") in {*(metadata() or ())} else claimed_id


@dataclass
class Bridge:
    """A running bridge and its peers."""

    faults: FaultServer
    feed: Any
    clock: FakeClock
    board: CurrentTrending
    agent: DogStatsdServer
    seen: SeenVideos
    pages: list[ServedPage]

    async def page(self, **fields: Any) -> pb.GetRecommendationsResponse:
        """Ask for a page of five."""
        request = pb.GetRecommendationsRequest(**{"user_id": "u1", "page_size": 5, **fields})
        reply: pb.GetRecommendationsResponse = await self.feed.GetRecommendations(request, timeout=5)
        return reply


@asynccontextmanager
async def running_bridge(agent: DogStatsdServer) -> AsyncIterator[Bridge]:
    """Run the service until the block ends; its metrics go to the agent."""
    metrics = connect_metrics(agent.host, agent.port, service="bridge")
    clock, board = FakeClock(), CurrentTrending()
    videos = [
        TrendingVideo(ranked=RankedVideo(video, 1000.0 - rank), tags=("even",) if rank % 2 == 0 else ("odd",))
        for rank, video in enumerate(TRENDING)
    ]
    board.current = Trending(COMPUTED_AT, videos)
    server = AioServer(["videowindow.feed.v1.FeedService"])
    async with running_fault_server() as faults, open_channel(faults.address, None) as recsvc:
        breaker = Breaker(BreakerPolicy(), clock, report_breaker(metrics))
        limiter = Limiter(LimiterPolicy(least=100), time.monotonic)
        client = RecsvcClient(breaker, limiter, RetryBudget(BudgetPolicy()), channels=[recsvc], backoff=lambda _: 0.005)
        seen = SeenVideos()
        pages: list[ServedPage] = []
        service = FeedService(
            client,
            board,
            metrics,
            time.monotonic,
            budget_s=0.5,  # no pause of this machine's makes a page late
            users=_AnyUsers(),
            experiments=Experiments(EXPERIMENT),
            seen=seen,
            listeners=[pages.append],
        )
        server.add(add_FeedServiceServicer_to_server, service)
        port = await server.start("127.0.0.1:0")
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await channel.channel_ready()
            yield Bridge(faults, FeedServiceStub(channel), clock, board, agent, seen, pages)
    await server.drain(1)
    metrics.close()
