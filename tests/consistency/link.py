"""TCP links that can be cut, also in the middle of a reply, and held back; one of them swallows acknowledgements."""

import asyncio
import struct
from contextlib import suppress
from typing import Final

PRODUCE: Final = 0
"""Kafka's API key of produce requests."""


class Link:
    """Forwards a port of its own to another one. Belongs to one event loop."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._audible = asyncio.Event()
        self._audible.set()
        self.port = 0
        self.clips = 0
        """Replies, of those to come, that end in their middle, together with their connections."""
        self.clipped = 0

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening, and cut what is open."""
        if self._server:
            self._server.close()
        self.cut()

    def cut(self) -> None:
        """Break every connection, with whatever is on its way."""
        for writer in list(self._writers):
            writer.transport.abort()

    def mute(self) -> None:
        """Hold replies back; requests go through."""
        self._audible.clear()

    def unmute(self) -> None:
        """Let replies go through, the late ones too."""
        self._audible.set()

    async def _deliver(self, reply: bytes, writer: asyncio.StreamWriter) -> None:
        await self._audible.wait()
        if self.clips:
            self.clips -= 1
            self.clipped += 1
            writer.write(reply[: len(reply) // 2])
            await writer.drain()
            raise ConnectionResetError
        writer.write(reply)
        await writer.drain()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        with suppress(OSError, asyncio.IncompleteReadError):
            await self._carry(reader, writer, far_reader, far_writer)
        for end in (writer, far_writer):
            self._writers.discard(end)
            end.transport.abort()

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        requests, replies = self._requests(reader, far_writer), self._replies(far_reader, writer)
        await _first_of([asyncio.create_task(requests), asyncio.create_task(replies)])

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def _replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._deliver(data, writer)


class KafkaLink(Link):
    """Forwards Kafka's protocol; brokers must advertise this link's port."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.swallowing = False
        """Whether the acknowledgements of produce requests are lost, together with their connections."""
        self.swallowed = 0

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        produced: set[int] = set()
        requests = self._frames_there(reader, far_writer, produced)
        replies = self._frames_back(far_reader, writer, produced)
        await _first_of([asyncio.create_task(requests), asyncio.create_task(replies)])

    async def _frames_there(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, produced: set[int]
    ) -> None:
        while True:
            frame = await _frame(reader)
            api, _, correlation = struct.unpack_from(">hhi", frame, 4)
            if api == PRODUCE:
                produced.add(correlation)
            writer.write(frame)
            await writer.drain()

    async def _frames_back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, produced: set[int]
    ) -> None:
        while True:
            frame = await _frame(reader)
            (correlation,) = struct.unpack_from(">i", frame, 4)
            if correlation in produced:
                produced.discard(correlation)
                if self.swallowing:
                    self.swallowed += 1
                    return
            await self._deliver(frame, writer)


async def _frame(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(4)
    return head + await reader.readexactly(struct.unpack(">i", head)[0])


async def _first_of(tasks: list["asyncio.Task[None]"]) -> None:
    """Wait until one direction has ended, and end the other."""
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
