"""Forwards positions to a service that keeps a user's devices in step: fire and forget."""

import asyncio
from typing import Any, Final, Protocol

from grpc import aio

from servicekit.telemetry.metrics import Metric, Metrics
from videowindow.feed.v1 import playback_pb2 as pb
from videowindow.feed.v1.playback_pb2_grpc import PlaybackServiceStub

TIMEOUT_S: Final = 0.050
CLOSE_GRACE_S: Final = 1.0
MAX_UNDER_WAY: Final = 200


class PositionListener(Protocol):
    """Listener for positions."""

    def forward(self, request: pb.UpdatePositionRequest) -> None:
        """Accept a position, and return at once."""


class NoPositionSync:
    """Listener that ignores positions."""

    def forward(self, request: pb.UpdatePositionRequest) -> None:
        """Ignore the position."""


class PositionSync:
    """Forwards positions to the same RPC of another service; drops and counts calls that fail or exceed 50 ms."""

    def __init__(self, channel: aio.Channel, metrics: Metrics) -> None:
        self._channel = channel
        self._stub: Any = PlaybackServiceStub(channel)
        self._metrics = metrics
        self._under_way: set[asyncio.Task[None]] = set()

    def use(self, channel: aio.Channel) -> None:
        """Use another channel from now on, and close the former one once its calls have ended."""
        before, self._channel = self._channel, channel
        self._stub = PlaybackServiceStub(channel)
        closing = asyncio.create_task(before.close(CLOSE_GRACE_S))
        self._under_way.add(closing)
        closing.add_done_callback(self._under_way.discard)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    def forward(self, request: pb.UpdatePositionRequest) -> None:
        """Send a position, unless too many are under way."""
        if len(self._under_way) >= MAX_UNDER_WAY:
            self._metrics.count(Metric.POSITION_SYNC_FAILED)
            return
        task = asyncio.create_task(self._send(request))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _send(self, request: pb.UpdatePositionRequest) -> None:
        try:
            await self._stub.UpdatePosition(request, timeout=TIMEOUT_S)
        except aio.AioRpcError:
            self._metrics.count(Metric.POSITION_SYNC_FAILED)
