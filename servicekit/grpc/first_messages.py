"""The messages that an asyncio server's unary calls wait for: none of them for ever.

gRPC gives a unary call to its handler together with its message, so that nobody could end a call whose message does
not come. Here such calls are served as streams of one message, which callers cannot tell apart.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final, TypeAlias

import grpc
from grpc import aio

from servicekit.grpc.abort import abort
from servicekit.grpc.errors import ServiceError, to_status
from servicekit.grpc.limits import LOOKS, SILENT

Context: TypeAlias = "aio.ServicerContext[Any, Any]"

MISSING: Final = ServiceError(
    grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_MISSING", "the call needs one message and had none"
)


class FirstMessages:
    """All waits of a server's unary calls for their messages."""

    def __init__(self) -> None:
        self._looks: dict[Context, int] = {}
        self._ends: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Return how many calls wait."""
        return len(self._looks)

    async def receive(self, context: Context) -> Any:
        """Return a call's message; ServiceError when it has none."""
        self._looks[context] = 0
        try:
            message = await context.read()
        finally:
            del self._looks[context]
        if message is aio.EOF:
            raise MISSING
        return message

    def look(self) -> None:
        """End the calls whose callers have been silent for too long."""
        for context, looks in list(self._looks.items()):
            self._looks[context] = looks + 1
            if looks + 1 >= LOOKS:
                self._end_soon(context, SILENT)

    def end(self, error: ServiceError) -> None:
        """End all calls that wait."""
        for context in self._looks:
            self._end_soon(context, error)

    def _end_soon(self, context: Context, error: ServiceError) -> None:
        end = asyncio.create_task(self._end(context, error))
        self._ends.add(end)
        end.add_done_callback(self._ends.discard)

    async def _end(self, context: Context, error: ServiceError) -> None:
        if context in self._looks:  # else the message has come by now
            # Not by a cancellation of the wait, from which gRPC would keep what it reads into.
            with suppress(aio.AbortError, aio.UsageError, asyncio.CancelledError):
                await abort(context, to_status(error))
