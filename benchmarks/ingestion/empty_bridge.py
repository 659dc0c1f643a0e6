"""Serves empty acknowledgements, the least that ingestion can cost: `python -m benchmarks.ingestion.empty_bridge`.

The bridge's own kind of server and error mapping, on one core, acknowledge each interaction without looking at it.
"""

import asyncio
import gc
import os
from typing import Any

import grpc
import uvloop
from grpc import aio

from servicekit.server.grpc_server import AioServer
from videowindow.feed.v1 import interaction_pb2 as pb

SERVICE = "videowindow.feed.v1.InteractionService"


async def acknowledge(
    request: pb.RecordInteractionRequest, _: aio.ServicerContext[Any, Any]
) -> pb.RecordInteractionResponse:
    """Return at once."""
    return pb.RecordInteractionResponse(
        event_id=request.interaction.event_id, status=pb.ACKNOWLEDGEMENT_STATUS_ACCEPTED
    )


async def serve() -> None:
    """Serve until the process is ended."""
    os.sched_setaffinity(0, {0})
    server = AioServer([SERVICE])
    handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(
        acknowledge,
        request_deserializer=pb.RecordInteractionRequest.FromString,
        response_serializer=pb.RecordInteractionResponse.SerializeToString,
    )
    server.add_methods(SERVICE, {"RecordInteraction": handler})
    print(await server.start("127.0.0.1:0"), flush=True)
    gc.freeze()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve())
