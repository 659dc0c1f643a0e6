"""Serves the least asyncio gRPC proxy: `python -m benchmarks.feed.minimal_proxy <upstream>` prints its port.

It hands the bytes of `Recommend` on and back, without looking at them.
"""

import asyncio
import sys
from typing import Any

import grpc
from grpc import aio

from benchmarks.feed.fault_proxy import SERVICE


async def serve(upstream: str) -> None:
    """Serve until the process is ended."""
    recommend: aio.UnaryUnaryMultiCallable[bytes, bytes]
    recommend = aio.insecure_channel(upstream).unary_unary(f"/{SERVICE}/Recommend")

    async def hand_on(request: bytes, _: aio.ServicerContext[Any, Any]) -> bytes:
        return await recommend(request, timeout=0.15)

    server = aio.server(options=[("grpc.so_reuseport", 0)])
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(hand_on)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {"Recommend": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
