"""One long StreamInteractions call that many events go over, each waiting for its own acknowledgement."""

import asyncio
from typing import Any

import grpc
from grpc import aio

from videowindow.feed.v1 import interaction_pb2 as pb


class StreamBrokenError(Exception):
    """No acknowledgement came; `code` is the name of the status."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


class EventStream:
    """Sends events over a call, which is made anew after it has ended.

    Args:
        stub: Of InteractionService.
        metadata: Of the call.
        timeout_s: How long an acknowledgement may take.
    """

    def __init__(self, stub: Any, metadata: Any, *, timeout_s: float) -> None:
        self._stub = stub
        self._metadata = metadata
        self._timeout_s = timeout_s
        self._call: Any = None
        self._reading: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._waiting: dict[str, asyncio.Future[pb.StreamInteractionsResponse]] = {}

    async def record(self, event: pb.Interaction) -> None:
        """Return once the event is acknowledged; StreamBrokenError when it is not."""
        future: asyncio.Future[pb.StreamInteractionsResponse] = asyncio.get_running_loop().create_future()
        self._waiting[event.event_id] = future
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._write(event)
                reply = await future
        except (aio.AioRpcError, asyncio.InvalidStateError):
            raise StreamBrokenError("UNAVAILABLE", "the stream has ended") from None
        except TimeoutError:
            raise StreamBrokenError("DEADLINE_EXCEEDED", "no acknowledgement over the stream") from None
        finally:
            self._waiting.pop(event.event_id, None)
        if reply.HasField("error"):
            raise StreamBrokenError(_name(reply.error.code), reply.error.message)

    async def _write(self, event: pb.Interaction) -> None:
        async with self._writing:
            if self._call is None or self._call.done():
                self._call = self._stub.StreamInteractions(metadata=self._metadata)
                self._reading = asyncio.create_task(self._read(self._call))
            await self._call.write(pb.StreamInteractionsRequest(interaction=event))

    async def _read(self, call: Any) -> None:
        broken = StreamBrokenError("UNAVAILABLE", "the stream has ended")
        try:
            async for reply in call:
                future = self._waiting.get(reply.event_id)
                if future and not future.done():
                    future.set_result(reply)
        except aio.AioRpcError as error:
            broken = StreamBrokenError(error.code().name, error.details() or "")
        for future in [*self._waiting.values()]:
            if not future.done():
                future.set_exception(broken)


def _name(code: int) -> str:
    return next((status.name for status in grpc.StatusCode if status.value[0] == code), str(code))
