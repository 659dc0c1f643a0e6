"""Puts faults in front of recsvc: delays, errors, resets and a queue, as standard input asks.

Run as `python -m benchmarks.fault_proxy <upstream>`: it prints its port, then follows one JSON object a line with any
of `delay_ms`, `code` and the `share` of calls that end with it, `reset_share` of replies cut in the middle of their
bytes, and `service_ms` of a single worker with an endless queue. `{"report": true}` prints how many calls came since
the last time.
"""

import asyncio
import json
import random
import socket
import struct
import sys
from dataclasses import dataclass
from typing import Any

import grpc
from grpc import aio

SERVICE = "videowindow.lightfm.v2025_9.RecommendationService"


@dataclass(slots=True)
class Faults:
    """The faults that the proxy injects now."""

    delay_ms: float = 0.0
    code: str = "UNAVAILABLE"
    share: float = 0.0
    reset_share: float = 0.0
    service_ms: float = 0.0


class Proxy:
    """Forwards calls, and injects faults."""

    def __init__(self, upstream: str) -> None:
        self.faults = Faults()
        self.calls = 0
        self._worker = asyncio.Lock()
        self._upstream = aio.insecure_channel(upstream)
        self._recommend: aio.UnaryUnaryMultiCallable[bytes, bytes] = self._upstream.unary_unary(f"/{SERVICE}/Recommend")

    async def recommend(self, request: bytes, context: aio.ServicerContext[Any, Any]) -> bytes:
        """Serve one call."""
        self.calls += 1
        faults = self.faults
        if faults.service_ms:
            async with self._worker:
                await asyncio.sleep(faults.service_ms / 1000)
        if faults.delay_ms:
            await asyncio.sleep(faults.delay_ms / 1000)
        if random.random() < faults.share:
            await context.abort(grpc.StatusCode[faults.code], "as told")
        try:
            reply: bytes = await self._recommend(request, timeout=1, metadata=(("x-lightfm-api-version", "2025.9"),))
        except aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "")
        return reply

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        """Forward the bytes of one connection, and reset it where the faults say so."""
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, far_writer))
                both.create_task(self._copy_replies(far_reader, writer))
        except* (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            for end in (writer, far_writer):
                end.close()

    async def _copy_replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if len(data) > 200 and random.random() < self.faults.reset_share:
                writer.write(data[: len(data) // 2])
                await writer.drain()
                linger = struct.pack("ii", 1, 0)  # close with RST, not FIN
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    raise ConnectionResetError


async def serve(upstream: str) -> None:
    """Serve until standard input ends."""
    proxy = Proxy(upstream)
    server = aio.server(options=[("grpc.so_reuseport", 0), ("grpc.keepalive_permit_without_calls", 1)])
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(proxy.recommend)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {"Recommend": handler})])
    inner = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    outer = await asyncio.start_server(lambda reader, writer: proxy.connect(reader, writer, inner), "127.0.0.1", 0)
    print(outer.sockets[0].getsockname()[1], flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        told = json.loads(line)
        if told.pop("report", False):
            print(proxy.calls, flush=True)
            proxy.calls = 0
        else:
            proxy.faults = Faults(**told)
            print("told", flush=True)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
