"""PlaybackService over gRPC: part of the API, not offered by this server."""

from typing import Any

from grpc import aio

from servicekit.errors import unimplemented
from videowindow.feed.v1 import playback_pb2 as pb
from videowindow.feed.v1.playback_pb2_grpc import PlaybackServiceServicer


class PlaybackService(PlaybackServiceServicer):
    """Answers UNIMPLEMENTED with a reason."""

    async def CreateSession(  # the name of the RPC
        self,
        request: pb.CreateSessionRequest,  # gRPC passes it
        context: aio.ServicerContext[Any, Any],  # gRPC passes it
    ) -> pb.CreateSessionResponse:
        """Say that this server does not offer it."""
        raise unimplemented("CreateSession")

    async def UpdatePosition(  # the name of the RPC
        self,
        request: pb.UpdatePositionRequest,  # gRPC passes it
        context: aio.ServicerContext[Any, Any],  # gRPC passes it
    ) -> pb.UpdatePositionResponse:
        """Say that this server does not offer it."""
        raise unimplemented("UpdatePosition")

    async def EndSession(  # the name of the RPC
        self,
        request: pb.EndSessionRequest,  # gRPC passes it
        context: aio.ServicerContext[Any, Any],  # gRPC passes it
    ) -> pb.EndSessionResponse:
        """Say that this server does not offer it."""
        raise unimplemented("EndSession")
