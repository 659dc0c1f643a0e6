"""FeedService over gRPC."""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from secrets import token_bytes, token_hex
from typing import Any, Final

import structlog
from grpc import aio

from bridge.authentication.authenticator import TrustedCallers, Users
from bridge.domain.deadline import Clock, Deadline, lightfm_deadline
from bridge.domain.page import FallbackReason, Page, PageListener, PageQuery, RankedVideo, ServedPage
from bridge.feed.experiments import Algorithm, Assignment, Experiments
from bridge.feed.page_token import MAX_SERVED, MIN_KEY_BYTES, PageToken, PageTokens
from bridge.feed.protobuf import FeedRequest, decode_recommendations, decode_trending, encode_page, encode_trending
from bridge.feed.recommend import Recommendations
from bridge.feed.seen_videos import SeenVideos
from bridge.trending.ranking import CurrentTrending
from servicekit.grpc.errors import ServiceError
from servicekit.telemetry.metrics import Metric, Metrics
from videowindow.feed.v1 import feed_pb2 as pb
from videowindow.feed.v1.feed_pb2_grpc import FeedServiceServicer

logger = structlog.get_logger(__name__)

FALLBACK_RESERVE_S: Final = 0.010
"""Kept of the caller's own time for the trending page and the way back."""


class FeedService(FeedServiceServicer):
    """Serves pages.

    Args:
        feed: Makes them.
        board: What is trending.
        metrics: Told how long each page took, and which LightFM did not rank.
        clock: Monotonic seconds.
        budget_s: Seconds that LightFM may take for a page, retries included.
        users: Says who a call's user is.
        experiments: Say how that user's pages are made.
        seen: What users have seen lately.
        tokens: Makes and reads page tokens; by default with a key of its own, which no other bridge knows.
        listeners: Told of each served page.
        new_session: Makes names of feed sessions.
        now: The time of day (UTC).
    """

    def __init__(
        self,
        feed: Recommendations,
        board: CurrentTrending,
        metrics: Metrics,
        clock: Clock,
        *,
        budget_s: float,
        users: Users | None = None,
        experiments: Experiments | None = None,
        seen: SeenVideos | None = None,
        tokens: PageTokens | None = None,
        listeners: Sequence[PageListener] = (),
        new_session: Callable[[], str] = lambda: token_hex(16),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._feed = feed
        self._board = board
        self._metrics = metrics
        self._clock = clock
        self._budget_s = budget_s
        self._users = users or TrustedCallers()
        self._experiments = experiments or Experiments()
        self._seen = seen or SeenVideos()
        self._tokens = tokens or PageTokens([token_bytes(MIN_KEY_BYTES)])
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
        page = await self._page(wanted, arm, self._deadline(context))
        served = self._served(wanted, arm, page)
        reply = encode_page(served, self._next_token(wanted, served.feed_session_id, page.videos, more=page.more))
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
        """Return a page of what is trending."""
        wanted = decode_trending(request, self._tokens)
        trending = self._board.current  # once: a refresh may come between two looks
        if trending is None:
            return pb.GetTrendingResponse()
        page = trending.at(wanted.surface).page(wanted.page_size, video_filter=wanted.filter, served=wanted.served)
        token = self._next_token(wanted, "", page.videos, more=page.more)
        return encode_trending(page.videos, token, trending.computed_at)

    async def _page(self, wanted: FeedRequest, arm: Assignment, deadline: Deadline) -> Page:
        query = PageQuery(
            user_id=wanted.user_id,
            page_size=wanted.page_size,
            surface=wanted.surface,
            filter=wanted.filter,
            served=wanted.served,
            seen=self._seen.of(wanted.user_id),
            diversity=arm.diversity,
            request_id=wanted.request_id,
        )
        if not wanted.user_id:
            return self._feed.trending(query, FallbackReason.ANONYMOUS)
        if arm.algorithm is Algorithm.TRENDING:
            return self._feed.trending(query, FallbackReason.EXPERIMENT)
        return await self._feed.page(query, deadline)

    def _deadline(self, context: aio.ServicerContext[Any, Any]) -> Deadline:
        return lightfm_deadline(
            self._clock, budget_s=self._budget_s, caller_s=context.time_remaining(), reserve_s=FALLBACK_RESERVE_S
        )

    def _served(self, wanted: FeedRequest, arm: Assignment, page: Page) -> ServedPage:
        return ServedPage(
            user_id=wanted.user_id,
            feed_session_id=wanted.feed_session_id or self._new_session(),
            number=wanted.page,
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

    def _next_token(self, wanted: FeedRequest, session_id: str, videos: Sequence[RankedVideo], *, more: bool) -> str:
        """Return the token of the next page; empty when there is none, or when the session has shown enough."""
        served = (*wanted.served, *[video_id for video_id, _ in videos])
        if not more or not videos or len(served) >= MAX_SERVED:
            return ""
        token = PageToken(feed_session_id=session_id, request=wanted.digest, page=wanted.page + 1, served=served)
        return self._tokens.encode(token)


def _tags(*tags: str, variant_id: str) -> list[str]:
    """Return the tags with that of the variant, where there is one; there are few variants."""
    return [*tags, f"variant:{variant_id}"] if variant_id else [*tags]
