"""Gives a revision to videos that were there before there were revisions, so that the topic tells of all of them."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from bridge.background.job import Job
from bridge.domain.deadline import Clock
from bridge.postgres.pool import Database
from servicekit.telemetry.metrics import NO_METRICS, Metrics

LOCK: Final = 4_701_031
BATCH: Final = 200
REST: Final = 9.0
"""How many times as long as a batch took the next one waits: all of them take a tenth of a core at most."""
LOOK_S: Final = 60.0

_LOCK: Final = "SELECT pg_try_advisory_xact_lock(%s)"
_ANNOUNCE: Final = """
UPDATE videos SET revision = NULL WHERE video_id IN (
    SELECT video_id FROM videos WHERE revision IS NULL ORDER BY video_id LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
)
"""


class Announcer:
    """Announces videos without a revision, a few at a time; of several bridges one does so.

    Args:
        database: Holds them.
        metrics: Told of failures.
        clock: Monotonic seconds.
        sleep: Waits.
    """

    def __init__(
        self,
        database: Database,
        *,
        metrics: Metrics = NO_METRICS,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._clock = clock
        self._job = Job("announcing", self.announce, interval_s=LOOK_S, metrics=metrics, sleep=sleep)

    async def run(self) -> None:
        """Announce what there is; forever."""
        await self._job.run()

    async def announce(self) -> float:
        """Announce some, and return the seconds until the next ones."""
        began = self._clock()
        async with self._database.connection() as connection:
            if (await (await connection.execute(_LOCK, [LOCK])).fetchone()) != (True,):
                return LOOK_S
            announced = (await connection.execute(_ANNOUNCE, [BATCH])).rowcount
        return REST * (self._clock() - began) if announced == BATCH else LOOK_S
