"""The least that recording an interaction over gRPC can cost: `python -m benchmarks.empty_bridge` prints its port.

The bridge's own kind of server and interceptors, on one core, acknowledge each interaction without looking at it.
"""

import asyncio
import gc
import os
from typing import Any

import uvloop
from grpc import aio

from servicekit.lifecycle import AioServer
from videowindow.feed.v1 import interaction_pb2 as pb
from videowindow.feed.v1.interaction_pb2_grpc import (
    InteractionServiceServicer,
    add_InteractionServiceServicer_to_server,
)

SERVICE = "videowindow.feed.v1.InteractionService"


class EmptyService(InteractionServiceServicer):
    """Acknowledges everything."""

    async def RecordInteraction(  # noqa: N802  # the name of the RPC
        self,
        request: pb.RecordInteractionRequest,
        context: aio.ServicerContext[Any, Any],  # noqa: ARG002  # gRPC passes it
    ) -> pb.RecordInteractionResponse:
        """Return at once."""
        return pb.RecordInteractionResponse(
            event_id=request.interaction.event_id, status=pb.ACKNOWLEDGEMENT_STATUS_ACCEPTED
        )


async def serve() -> None:
    """Serve until the process is ended."""
    os.sched_setaffinity(0, {0})
    server = AioServer([SERVICE])
    add_InteractionServiceServicer_to_server(EmptyService(), server.grpc)
    print(await server.start("127.0.0.1:0"), flush=True)
    gc.freeze()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve())
