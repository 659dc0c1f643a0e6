"""Bounds an asyncio server's open streams: a set number, none silent for ever, all ended before the server.

A stream ends as if its caller had sent the last message, so that all which came before is answered, and then with an
error that says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

from servicekit.grpc.errors import ServiceError
from servicekit.grpc.first_messages import MISSING, FirstMessages
from servicekit.grpc.limits import FIRST_MESSAGE_S, IDLE_S, LOOKS, SILENT, STOPPING, crowded

LIMIT: Final = 1_000
"""Streams of one method that may be open."""

T = TypeVar("T")


class _InterruptedError(Exception):
    """The stream is ended."""


class OpenStreams:
    """All open streams of a server, and its unary calls as long as their messages have not come.

    Args:
        limit: Streams of one method that may be open.
        first_message_s: Seconds in which the first message must come.
        idle_s: Seconds in which each further one must come.
    """

    def __init__(self, *, limit: int = LIMIT, first_message_s: float = FIRST_MESSAGE_S, idle_s: float = IDLE_S) -> None:
        self.messages = FirstMessages()
        self._limit = limit
        self._interval_s = first_message_s / LOOKS
        self._idle_looks = max(LOOKS, round(idle_s / self._interval_s))
        self._open: dict[str, set[OpenStream]] = {}
        self._looking: asyncio.Task[None] | None = None

    @contextmanager
    def opened(self, method: str) -> Iterator[OpenStream]:
        """Register one stream as open; ServiceError if too many of the method are open."""
        peers = self._open.setdefault(method, set())
        if len(peers) >= self._limit:
            raise crowded(method)
        stream = OpenStream(self._idle_looks)
        peers.add(stream)
        try:
            yield stream
        finally:
            peers.discard(stream)

    def begin(self) -> None:
        """Watch the streams from now on."""
        self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            self.messages.look()
            for stream in self._all():
                stream.look()

    def _all(self) -> list[OpenStream]:
        return [stream for peers in self._open.values() for stream in peers]

    def dismiss(self) -> None:
        """End all streams, as the server is about to end."""
        for stream in self._all():
            stream.end(STOPPING)

    async def end(self) -> None:
        """Stop watching the streams."""
        if self._looking:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking


class OpenStream:
    """An open stream, whose handler learns of its end while it waits for the caller.

    Args:
        idle_looks: Looks without a message between them after which it is ended, once the first one has come.
    """

    def __init__(self, idle_looks: int) -> None:
        self._idle_looks = idle_looks
        self._allowed = LOOKS
        self._looks = 0
        self._waiting: asyncio.Task[Any] | None = None
        self._ended: ServiceError | None = None

    async def each(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Yield the requests, until there are no more or the stream is ended."""
        while not self._is_told():
            try:
                request = await self._interruptible(anext(requests))
            except StopAsyncIteration:
                return
            except _InterruptedError:
                return
            self._looks, self._allowed = 0, self._idle_looks
            yield request

    async def first(self, requests: AsyncIterator[Any]) -> Any:
        """Return the only request; ServiceError where there is none, or the stream is ended."""
        with suppress(StopAsyncIteration, _InterruptedError):
            return await self._interruptible(anext(requests))
        self.check()
        raise MISSING

    async def until_ended(self, news: Awaitable[None]) -> None:
        """Wait for an awaitable other than the caller's next request, until the stream is ended."""
        self._allowed = 0
        with suppress(_InterruptedError):
            await self._interruptible(news)

    async def _interruptible(self, wait: Awaitable[T]) -> T:
        """Wait for an awaitable; _InterruptedError if the stream is ended."""
        task = asyncio.current_task()
        self._waiting = task
        try:
            return await wait
        except asyncio.CancelledError:
            if not self._is_told() or task is None:
                raise
            task.uncancel()
            raise _InterruptedError from None
        finally:
            self._waiting = None

    def _is_told(self) -> bool:
        return self._ended is not None

    def look(self) -> None:
        """End the stream if its caller has been silent for too long."""
        self._looks += 1
        if self._allowed and self._looks >= self._allowed:
            self.end(SILENT)

    def end(self, error: ServiceError) -> None:
        """End the stream with an error once the received requests are answered."""
        if self._ended is None:
            self._ended = error
            if self._waiting:
                self._waiting.cancel()

    def check(self) -> None:
        """Raise the ServiceError that ended the stream, if any."""
        if self._ended:
            raise self._ended
