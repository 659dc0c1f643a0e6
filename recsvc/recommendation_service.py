"""The RecommendationService RPCs: decode, ask the domain, encode."""

from collections.abc import Iterator

import grpc

from recsvc.decoding import feed_query
from recsvc.encoding import recommend_response
from recsvc.recommender import Recommender
from servicekit.errors import unimplemented
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2_grpc as pb_grpc


class RecommendationService(pb_grpc.RecommendationServiceServicer):
    """Ranks videos for viewers.

    Args:
        recommender: Makes the pages.
    """

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender

    def Recommend(self, request: pb.RecommendRequest, context: grpc.ServicerContext) -> pb.RecommendResponse:
        """Return the next page for one viewer."""
        return recommend_response(self._recommender.recommend(feed_query(request)))

    def BatchRecommend(
        self,
        request: pb.BatchRecommendRequest,
        context: grpc.ServicerContext,
    ) -> Iterator[pb.BatchRecommendResponse]:
        """Not offered yet."""
        raise unimplemented("BatchRecommend")

    def ScoreVideos(self, request: pb.ScoreVideosRequest, context: grpc.ServicerContext) -> pb.ScoreVideosResponse:
        """Not offered yet."""
        raise unimplemented("ScoreVideos")

    def ListSimilarVideos(
        self,
        request: pb.ListSimilarVideosRequest,
        context: grpc.ServicerContext,
    ) -> pb.ListSimilarVideosResponse:
        """Not offered yet."""
        raise unimplemented("ListSimilarVideos")

    def GetUserProfile(
        self,
        request: pb.GetUserProfileRequest,
        context: grpc.ServicerContext,
    ) -> pb.GetUserProfileResponse:
        """Not offered yet."""
        raise unimplemented("GetUserProfile")

    def UpdateUserProfile(
        self,
        request: pb.UpdateUserProfileRequest,
        context: grpc.ServicerContext,
    ) -> pb.UpdateUserProfileResponse:
        """Not offered yet."""
        raise unimplemented("UpdateUserProfile")

    def DeleteUserProfile(
        self,
        request: pb.DeleteUserProfileRequest,
        context: grpc.ServicerContext,
    ) -> pb.DeleteUserProfileResponse:
        """Not offered yet."""
        raise unimplemented("DeleteUserProfile")
