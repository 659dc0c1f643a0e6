"""Serves the RecommendationService RPCs: decode, ask the domain, encode."""

import logging
import math
from collections.abc import Callable, Iterator

import grpc
import structlog

from recsvc.grpc_api import decode, encode
from recsvc.model.live_model import LiveModel
from recsvc.pages.recommender import FeedQuery, Page, Recommender
from recsvc.pages.similar_videos import similar_videos
from recsvc.users.directory import ProfileSummary, UserDirectory
from servicekit.grpc.caller import audited
from servicekit.grpc.errors import ServiceError, not_found
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2_grpc as pb_grpc

logger = structlog.get_logger(__name__)


class RecommendationService(pb_grpc.RecommendationServiceServicer):
    """Ranks videos for users.

    Args:
        live: Holds the model.
        directory: Knows the users.
        recommender: Makes their pages.
        now_ms: Milliseconds since 1970 UTC.
    """

    def __init__(
        self, live: LiveModel, directory: UserDirectory, recommender: Recommender, *, now_ms: Callable[[], int]
    ) -> None:
        self._live = live
        self._directory = directory
        self._recommender = recommender
        self._now_ms = now_ms
        # A line that nobody reads would cost a page a twentieth of its processor time.
        self._logs_pages = logger.is_enabled_for(logging.DEBUG)

    def Recommend(self, request: pb.RecommendRequest, context: grpc.ServicerContext) -> pb.RecommendResponse:
        """Return the next page for one user."""
        query = decode.decode_recommend(request, now_ms=self._now_ms)
        page = self._recommender.recommend(query)
        if self._logs_pages:
            logger.debug(
                "page.made",
                request_id=query.request_id,
                surface=query.surface,
                videos=len(page.ranked),
                user_state=page.user_state.name,
                model_version=page.model_version,
            )
        return encode.recommend_reply(page)  # type: ignore[return-value]  # sent as it is

    def BatchRecommend(
        self,
        request: pb.BatchRecommendRequest,
        context: grpc.ServicerContext,
    ) -> Iterator[pb.BatchRecommendResponse]:
        """Return a page or an error for each request, in order."""
        decode.check_batch_size(request)
        decoded = [_attempt(one, self._now_ms) for one in request.requests]
        pages = self._recommender.recommend_many([one for one in decoded if isinstance(one, FeedQuery)])
        for index, one in enumerate(decoded):
            outcome: Page | ServiceError = next(pages) if isinstance(one, FeedQuery) else one
            yield encode.batch_response(index, outcome)

    def ScoreVideos(self, request: pb.ScoreVideosRequest, context: grpc.ServicerContext) -> pb.ScoreVideosResponse:
        """Return one score a video, in request order."""
        decode.check_score_request(request)
        return encode.score_response(request.video_ids, *self._recommender.score(request.user_id, request.video_ids))

    def ListSimilarVideos(
        self,
        request: pb.ListSimilarVideosRequest,
        context: grpc.ServicerContext,
    ) -> pb.ListSimilarVideosResponse:
        """Return the videos nearest to a given one."""
        return encode.similar_response(similar_videos(self._live, decode.similar_query(request)))

    def GetUserProfile(
        self,
        request: pb.GetUserProfileRequest,
        context: grpc.ServicerContext,
    ) -> pb.GetUserProfileResponse:
        """Return the profile of a user."""
        user_id = decode.checked_user_id(request.user_id)
        return pb.GetUserProfileResponse(profile=encode.profile_message(self._summary(user_id)))

    def UpdateUserProfile(
        self,
        request: pb.UpdateUserProfileRequest,
        context: grpc.ServicerContext,
    ) -> pb.UpdateUserProfileResponse:
        """Fold interactions into a user's profile."""
        interactions = decode.decode_profile_update(request, now_ms=self._now_ms())
        self._live.get()
        kept = self._directory.update(request.user_id, interactions, within_s=_time_left_s(context))
        # Nothing may be known even now: of a user who was forgotten, what happened before that counts for nothing.
        known = self._directory.summary(self._live.get(), request.user_id) or self._directory.stranger(request.user_id)
        return pb.UpdateUserProfileResponse(profile=encode.profile_message(known), durable_on=encode.DURABLE_ON[kept])

    @audited
    def DeleteUserProfile(
        self,
        request: pb.DeleteUserProfileRequest,
        context: grpc.ServicerContext,
    ) -> pb.DeleteUserProfileResponse:
        """Erase a user."""
        kept = self._directory.forget(decode.checked_user_id(request.user_id), within_s=_time_left_s(context))
        return pb.DeleteUserProfileResponse(durable_on=encode.DURABLE_ON[kept])

    def _summary(self, user_id: str) -> ProfileSummary:
        summary = self._directory.summary(self._live.get(), user_id)
        if summary is None:
            raise not_found("user", user_id)
        return summary


def _time_left_s(context: grpc.ServicerContext) -> float:
    """Return the seconds until the caller's deadline, centuries or infinity where there is none."""
    left: float | None = context.time_remaining()
    return math.inf if left is None else left


def _attempt(request: pb.RecommendRequest, now_ms: Callable[[], int]) -> FeedQuery | ServiceError:
    try:
        return decode.decode_recommend(request, now_ms=now_ms)
    except ServiceError as error:
        return error
