"""`python -m tests.support.grpc.draining_server direct|plain|asyncio|hurried`: prints its port, and drains at SIGTERM.

It waits for quiet for longer than a server does in production, as callers in tests get little of the processor; the
hurried one, which is an asyncio server, waits as in production.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any, Final
from unittest.mock import patch

import grpc

from servicekit.grpc.gate import Quiet
from servicekit.process.termination import aio_termination, thread_termination
from servicekit.server.grpc_server import AioServer
from tests.support.grpc.echo import SERVICE
from tests.support.grpc.thread_servers import KINDS

TAKES_S: Final = 0.002
REPLIES: Final = 10
GRACE_S: Final = 30.0
LAME_DUCK_S: Final = 0.2


def echo(request: bytes, _: Any) -> bytes:
    time.sleep(TAKES_S)
    return request


def many(request: bytes, _: Any) -> Iterator[bytes]:
    for _ in range(REPLIES):
        time.sleep(TAKES_S)
        yield request


async def echo_aio(request: bytes, _: Any) -> bytes:
    await asyncio.sleep(TAKES_S)
    return request


async def both_aio(requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        await asyncio.sleep(TAKES_S)
        yield request


def threads(kind: str) -> None:
    """Serve with threads."""
    stopping = thread_termination()
    server = KINDS[kind]([], threads=4)
    methods: Any = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Stream": grpc.unary_stream_rpc_method_handler(many),
    }
    server.add_methods(SERVICE, methods)
    print(server.start("127.0.0.1:0"), flush=True)  # noqa: T201  # for who started it
    stopping.wait()
    server.drain(GRACE_S, lame_duck_s=LAME_DUCK_S)


async def serve_aio() -> None:
    """Serve with asyncio."""
    stopping = aio_termination()
    server = AioServer([])
    methods: Any = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo_aio),
        "Stream": grpc.stream_stream_rpc_method_handler(both_aio),
    }
    server.add_methods(SERVICE, methods)
    print(await server.start("127.0.0.1:0"), flush=True)  # noqa: T201  # for who started it
    await stopping.wait()
    await server.drain(GRACE_S, lame_duck_s=LAME_DUCK_S)


if __name__ == "__main__":
    if sys.argv[1] == "hurried":
        asyncio.run(serve_aio())
        sys.exit()
    patient = partial(Quiet, quiet_s=0.5, within_s=10)
    modules = [f"servicekit.server.{name}.Quiet" for name in ("grpc_server", "threaded")]
    with patch(modules[0], patient), patch(modules[1], patient):
        asyncio.run(serve_aio()) if sys.argv[1] == "asyncio" else threads(sys.argv[1])
