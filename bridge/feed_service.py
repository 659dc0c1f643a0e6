"""FeedService over gRPC."""

from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import uuid4

from grpc import aio

from bridge.deadline import Clock, Deadline, lightfm_deadline
from bridge.feed import Feed
from bridge.feed_codec import FeedRequest, decode_recommendations, decode_trending, encode_page, encode_videos
from bridge.page import PageQuery, RankedVideo
from bridge.page_token import MAX_SERVED, PageToken
from bridge.trending import TrendingBoard
from servicekit.errors import ServiceError
from servicekit.telemetry import Metric, Metrics
from videowindow.feed.v1 import feed_pb2 as pb
from videowindow.feed.v1.feed_pb2_grpc import FeedServiceServicer

CALLER_RESERVE_S: Final = 0.010
"""Kept of the caller's own time for the trending page and the way back."""


class FeedService(FeedServiceServicer):
    """Serves pages.

    Args:
        feed: Makes them.
        board: What is trending.
        metrics: Told how long each page took.
        clock: Monotonic seconds.
        budget_s: Seconds that LightFM may take for a page, retries included.
        new_session: Makes names of feed sessions.
    """

    def __init__(
        self,
        feed: Feed,
        board: TrendingBoard,
        metrics: Metrics,
        clock: Clock,
        *,
        budget_s: float,
        new_session: Callable[[], str] = lambda: uuid4().hex,
    ) -> None:
        self._feed = feed
        self._board = board
        self._metrics = metrics
        self._clock = clock
        self._budget_s = budget_s
        self._new_session = new_session

    async def GetRecommendations(  # the name of the RPC
        self, request: pb.GetRecommendationsRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.GetRecommendationsResponse:
        """Return the viewer's next page."""
        started = self._clock()
        try:
            wanted = decode_recommendations(request)
        except ServiceError as error:
            self._observe(started, "none", error.code.name)
            raise
        deadline = self._deadline(context)
        page = await self._feed.page(_query(wanted), deadline)
        session = wanted.feed_session_id or self._new_session()
        reply = encode_page(page, wanted, session, _next_token(wanted, session, page.videos, more=page.more))
        self._observe(started, page.served_by, "OK")
        return reply

    async def GetTrending(  # the name of the RPC
        self,
        request: pb.GetTrendingRequest,
        context: aio.ServicerContext[Any, Any],  # gRPC passes it
    ) -> pb.GetTrendingResponse:
        """Return a page of what is trending."""
        wanted = decode_trending(request)
        trending = self._board.current  # once: a refresh may come between two looks
        if trending is None:
            return pb.GetTrendingResponse()
        page = trending.page(wanted.page_size, video_filter=wanted.filter, served=wanted.served)
        token = _next_token(wanted, "", page.videos, more=page.more)
        reply = pb.GetTrendingResponse(videos=encode_videos(page.videos), next_page_token=token)
        reply.computed_at.FromDatetime(trending.computed_at)
        return reply

    def _deadline(self, context: aio.ServicerContext[Any, Any]) -> Deadline:
        return lightfm_deadline(
            self._clock, budget_s=self._budget_s, caller_s=context.time_remaining(), reserve_s=CALLER_RESERVE_S
        )

    def _observe(self, started: float, served_by: str, status: str) -> None:
        milliseconds = (self._clock() - started) * 1000
        self._metrics.distribution(
            Metric.LATENCY, milliseconds, tags=[f"served_by:{served_by}", f"status:{status.lower()}"]
        )


def _query(wanted: FeedRequest) -> PageQuery:
    return PageQuery(
        user_id=wanted.user_id,
        page_size=wanted.page_size,
        surface=wanted.surface,
        filter=wanted.filter,
        served=wanted.served,
        request_id=wanted.request_id,
    )


def _next_token(wanted: FeedRequest, session_id: str, videos: Sequence[RankedVideo], *, more: bool) -> str:
    """Return the token of the next page; empty when there is none, or when the session has shown enough."""
    served = (*wanted.served, *(video.video_id for video in videos))
    if not more or not videos or len(served) >= MAX_SERVED:
        return ""
    return PageToken(feed_session_id=session_id, request=wanted.digest, served=served).encode()
