"""Serves FeedService over gRPC."""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from secrets import token_bytes, token_hex
from typing import Any

import structlog
from grpc import aio

from bridge.authentication.authenticator import TrustedCallers, Users
from bridge.domain.deadline import Clock
from bridge.domain.page import Page, PageListener, PageRequest, RankedVideo, ServedPage
from bridge.feed.experiments import Assignment, Experiments
from bridge.feed.page_maker import NOTHING_BARRED, PageMaker
from bridge.feed.page_token import MAX_SERVED, MIN_KEY_BYTES, PageToken, PageTokens
from bridge.feed.protobuf import decode_recommendations, decode_trending, encode_page, encode_trending
from bridge.feed.seen_videos import SeenVideos
from bridge.recsvc_client.client import RecsvcClient
from bridge.trending.ranking import CurrentTrending
from bridge.visibility.hidden import Hidden
from servicekit.grpc.errors import ServiceError
from servicekit.telemetry.metrics import Metric, Metrics
from videowindow.feed.v1 import feed_pb2 as pb
from videowindow.feed.v1.feed_pb2_grpc import FeedServiceServicer

logger = structlog.get_logger(__name__)


class FeedService(FeedServiceServicer):
    """Serves pages, which never fail: LightFM ranks them, else they are trending.

    Args:
        recsvc: Asks LightFM.
        board: What is trending.
        metrics: Told how long each page took, and which LightFM did not rank.
        clock: Monotonic seconds.
        budget_s: Seconds that LightFM may take for a page, retries included.
        users: Says who a call's user is.
        experiments: Say how that user's pages are made.
        seen: What users have seen lately.
        tokens: Makes and reads page tokens; by default with a key of its own, which no other bridge knows.
        hidden: Says what no page may show; by default nothing is hidden.
        listeners: Called with each served page.
        new_session: Makes names of feed sessions.
        now: The time of day (UTC).
    """

    def __init__(
        self,
        recsvc: RecsvcClient,
        board: CurrentTrending,
        metrics: Metrics,
        clock: Clock,
        *,
        budget_s: float,
        users: Users | None = None,
        experiments: Experiments | None = None,
        seen: SeenVideos | None = None,
        tokens: PageTokens | None = None,
        hidden: Hidden | None = None,
        listeners: Sequence[PageListener] = (),
        new_session: Callable[[], str] = lambda: token_hex(16),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._board = board
        self._metrics = metrics
        self._clock = clock
        self._users = users or TrustedCallers()
        self._experiments = experiments or Experiments()
        self._tokens = tokens or PageTokens([token_bytes(MIN_KEY_BYTES)])
        self._pages = PageMaker(recsvc, board, clock, budget_s=budget_s, seen=seen or SeenVideos(), hidden=hidden)
        self._hidden = hidden
        self._listeners = listeners
        self._new_session = new_session
        self._now = now
        self._logs_pages = logger.is_enabled_for(logging.DEBUG)  # else each page would make its line for nobody

    async def GetRecommendations(  # the name of the RPC
        self, request: pb.GetRecommendationsRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.GetRecommendationsResponse:
        """Return the user's next page."""
        started = self._clock()
        try:
            user = self._users.user(request.user_id, context.invocation_metadata)
            wanted = decode_recommendations(request, user, self._tokens)
            arm = self._experiments.arm(wanted.user_id, wanted.experiment_variant_id)
        except ServiceError as error:
            self._observe(started, "none", error.code.name)
            raise
        page = await self._pages.page(wanted, arm, context.time_remaining())
        served = self._served(wanted, arm, page)
        token = self._next_token(wanted, served.feed_session_id, page.videos, more=page.more)
        reply = encode_page(served, token, self._hidden.as_of if self._hidden else None)
        self._report(started, served)
        if self._logs_pages:
            logger.debug(
                "page.served",
                request_id=wanted.request_id,
                surface=wanted.surface,
                feed_session_id=served.feed_session_id,
                videos=len(page.videos),
                served_by=page.served_by,
                fallback_reason=page.fallback_reason,
            )
        return reply

    async def GetTrending(  # the name of the RPC
        self,
        request: pb.GetTrendingRequest,
        context: aio.ServicerContext[Any, Any],  # gRPC passes it
    ) -> pb.GetTrendingResponse:
        """Return a trending page."""
        wanted = decode_trending(request, self._tokens)
        trending = self._board.current  # once: a refresh may come between two looks
        if trending is None:
            return pb.GetTrendingResponse()
        barred = self._hidden.bars(wanted.country) if self._hidden else NOTHING_BARRED
        page = trending.at(wanted.surface).page(
            wanted.page_size, video_filter=wanted.filter, served=wanted.served, barred=barred
        )
        token = self._next_token(wanted, "", page.videos, more=page.more)
        return encode_trending(page.videos, token, trending.computed_at, self._hidden.as_of if self._hidden else None)

    def _served(self, wanted: PageRequest, arm: Assignment, page: Page) -> ServedPage:
        return ServedPage(
            user_id=wanted.user_id,
            feed_session_id=wanted.feed_session_id or self._new_session(),
            number=wanted.number,
            surface=wanted.surface,
            variant_id=arm.variant_id,
            served_at=self._now(),
            page=page,
        )

    def _report(self, started: float, served: ServedPage) -> None:
        page = served.page
        if page.fallback_reason:
            self._metrics.count(
                Metric.FALLBACK, tags=_tags(f"reason:{page.fallback_reason}", variant_id=served.variant_id)
            )
        self._observe(started, page.served_by, "OK", served.variant_id)
        for listener in self._listeners:
            listener(served)

    def _observe(self, started: float, served_by: str, status: str, variant_id: str = "") -> None:
        milliseconds = (self._clock() - started) * 1000
        tags = _tags(f"served_by:{served_by}", f"status:{status.lower()}", variant_id=variant_id)
        self._metrics.distribution(Metric.LATENCY, milliseconds, tags=tags)

    def _next_token(self, wanted: PageRequest, session_id: str, videos: Sequence[RankedVideo], *, more: bool) -> str:
        """Return the token of the next page; empty when there is none, or when the session has shown enough."""
        served = (*wanted.served, *[video_id for video_id, _ in videos])
        if not more or not videos or len(served) >= MAX_SERVED:
            return ""
        token = PageToken(feed_session_id=session_id, request=wanted.digest, page=wanted.number + 1, served=served)
        return self._tokens.encode(token)


def _tags(*tags: str, variant_id: str) -> list[str]:
    """Return the tags, with that of the variant if there is one; variants are few."""
    return [*tags, f"variant:{variant_id}"] if variant_id else [*tags]
