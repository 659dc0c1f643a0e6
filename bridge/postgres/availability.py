"""Tracks whether Postgres answers: lost at the first failure, found again by a probe of its own."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog

from bridge.domain.deadline import Clock

PROBE_PAUSE_S: Final = 0.25
MAX_PAUSE_S: Final = 5.0
SOON_S: Final = 1.0
"""Seconds within which one that is lost again answers, but does not work, as with a full disk."""

logger = structlog.get_logger(__name__)


class Probed(Protocol):
    """A peer whose availability is probed."""

    async def answers(self) -> bool:
        """Return whether the peer works, within a few seconds."""


class Availability:
    """Shared up/down state of Postgres, so that no caller waits for a database that hangs.

    Args:
        database: Asked while it is away.
        clock: Monotonic seconds.
        sleep: Pauses between two probes.
    """

    def __init__(
        self, database: Probed, clock: Clock, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._database = database
        self._clock = clock
        self._lost_at = 0.0
        self._sleep = sleep
        self._lost = asyncio.Event()
        self.away = False
        """Whether it did not answer when last asked."""

    @property
    def away_s(self) -> float:
        """Return the seconds since Postgres was lost, while it is away."""
        return self._clock() - self._lost_at

    def lost(self) -> None:
        """Record that Postgres did not answer."""
        if not self._lost.is_set():
            self._lost_at = self._clock()
            logger.warning("postgres.away", consequence="interactions are acknowledged by Kafka")
        self.away = True
        self._lost.set()

    async def watch(self) -> None:
        """Probe Postgres while it is away, less often if each return was followed by a loss; forever."""
        pause, found_at = PROBE_PAUSE_S, -math.inf
        while True:
            await self._lost.wait()
            pause = min(MAX_PAUSE_S, 2 * pause) if self._lost_at - found_at < SOON_S else PROBE_PAUSE_S
            while self._lost.is_set():
                await self._sleep(pause)
                if await self._database.answers():
                    logger.info("postgres.back")
                    found_at = self._clock()
                    self.away = False
                    self._lost.clear()
