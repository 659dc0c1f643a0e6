"""Clients that record unique events and write down what they are told."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final
from uuid import UUID

from grpc import aio

from tests.consistency.history import SEVERAL, Acknowledged
from videowindow.feed.v1 import interaction_pb2 as pb
from videowindow.feed.v1.interaction_pb2_grpc import InteractionServiceStub

TIMEOUT_S: Final = 3.0
PAUSE_S: Final = 0.01
STREAM_LENGTH: Final = 40
OPTIONS: Final = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 300)]


class Client:
    """Acts for users of its own, one event after the other for each of them, by a bridge that it leaves in trouble.

    Args:
        addresses: Of the bridges.
        home: Which of these its users begin with, counted round and round.
        name: Its users' names begin with it.
        seed: Of its choices.
    """

    def __init__(self, addresses: Sequence[str], home: int, name: str, seed: int) -> None:
        self._addresses = addresses
        self._home = home
        self._name = name
        self._rng = random.Random(f"{seed} {name}")
        self._sequence = 0
        self.acknowledged: list[Acknowledged] = []
        self.sent: dict[str, int] = {}
        """The watch time of each event, which tells them apart."""
        self.refused = 0
        self.stopping = False

    async def run(self) -> None:
        """Record events until told to stop."""
        async with AsyncExitStack() as stack:
            stubs: list[Any] = []
            for address in self._addresses:
                channel = await stack.enter_async_context(aio.insecure_channel(address, options=OPTIONS))
                stubs.append(InteractionServiceStub(channel))
            users = [f"{self._name}-{number}" for number in range(3)]
            streams = self._stream(stubs, f"{self._name}-stream")
            await asyncio.gather(*[self._act(stubs, user) for user in users], streams)

    async def _act(self, stubs: list[Any], user: str) -> None:
        bridge = self._home
        while not self.stopping:
            event = self._event(user)
            asked: set[int] = set()
            while not await self._acknowledges(stubs, bridge, event, asked):
                bridge = self._next(bridge)
                await asyncio.sleep(PAUSE_S)
                if self._rng.random() < 0.5:  # some give up: whether such an event is there is open
                    break
            await asyncio.sleep(PAUSE_S)

    def _next(self, bridge: int) -> int:
        """Return whom to turn to after a refusal: half of the time another one."""
        return bridge + (len(self._addresses) > 1 and self._rng.random() < 0.5)

    async def _acknowledges(self, stubs: list[Any], bridge: int, event: pb.Interaction, asked: set[int]) -> bool:
        number = bridge % len(stubs)
        asked.add(number)
        request = pb.RecordInteractionRequest(interaction=event)
        try:
            await stubs[number].RecordInteraction(request, timeout=TIMEOUT_S)
        except aio.AioRpcError:
            self.refused += 1
            return False
        self.acknowledged.append(
            Acknowledged(event.user_id, event.event_id, number + 1 if len(asked) == 1 else SEVERAL)
        )
        return True

    async def _stream(self, stubs: list[Any], user: str) -> None:
        bridge = self._home
        while not self.stopping:
            events = [self._event(user) for _ in range(STREAM_LENGTH)]
            try:
                await self._stream_once(stubs[bridge % len(stubs)], events)
            except aio.AioRpcError:
                self.refused += 1
                bridge = self._next(bridge)
            await asyncio.sleep(5 * PAUSE_S)

    async def _stream_once(self, stub: Any, events: list[pb.Interaction]) -> None:
        async def requests() -> AsyncIterator[pb.StreamInteractionsRequest]:
            for event in events:
                yield pb.StreamInteractionsRequest(interaction=event)

        async for reply in stub.StreamInteractions(requests(), timeout=2 * TIMEOUT_S):
            if reply.HasField("error"):
                self.refused += 1
            else:
                # Its events are sent without waiting for each other: each stands for itself where order is judged.
                self.acknowledged.append(Acknowledged(f"{reply.event_id}", reply.event_id))

    def _event(self, user: str) -> pb.Interaction:
        self._sequence += 1
        event_id = str(UUID(int=self._rng.getrandbits(128), version=4))
        self.sent[event_id] = self._sequence
        return pb.Interaction(
            event_id=event_id,
            user_id=user,
            video_id=f"v{self._sequence % 50}",
            interaction_type=pb.INTERACTION_TYPE_WATCH,
            watch_time=self._sequence,
        )
