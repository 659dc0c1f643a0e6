"""Deletes the identifiers of old events, by which repeats are recognised.

An event is refused when it happened more than 7 days ago, and Kafka keeps messages for 7 days: identifiers that are
older than both protect against nothing but repeats without a timestamp.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from bridge.background.job import Job
from bridge.domain.deadline import Clock
from bridge.postgres.pool import Database
from servicekit.telemetry.metrics import NO_METRICS, Metrics

LOCK: Final = 4_701_005
MIN_DAYS: Final = 8
EVENT_ID_DAYS: Final = 14
CHUNK: Final = 5000
INTERVAL_S: Final = 3600.0

_FORGET: Final = """
DELETE FROM interaction_ids WHERE event_id IN (
    SELECT event_id FROM interaction_ids WHERE recorded_at < now() - make_interval(days => %s) LIMIT %s
)
"""

logger = structlog.get_logger(__name__)


class Retention:
    """Deletes old identifiers in small steps, resting as long as each takes. One process does so at a time.

    Args:
        database: Where they are.
        clock: Monotonic seconds.
        days: How long they are kept.
        metrics: Counts steps that failed.
        sleep: Rests.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        days: int,
        metrics: Metrics = NO_METRICS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._clock = clock
        self._days = days
        self._sleep = sleep
        self._job = Job("retention", self._step, interval_s=INTERVAL_S, metrics=metrics, sleep=sleep)

    async def run(self) -> None:
        """Delete old identifiers, again and again; forever."""
        await self._database.ready.wait()
        await self._job.run()

    async def _step(self) -> None:
        forgotten = await self.forget()
        if forgotten:
            logger.info("retention.forgotten", event_ids=forgotten)

    async def forget(self) -> int:
        """Delete all old identifiers; return their number, without those that another process deletes."""
        forgotten = 0
        while True:
            begin = self._clock()
            step = await self._forget_some()
            forgotten += step
            if step < CHUNK:
                return forgotten
            await self._sleep(self._clock() - begin)

    async def _forget_some(self) -> int:
        async with self._database.connection() as connection:
            cursor = await connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
            if await cursor.fetchone() != (True,):
                return 0
            return (await connection.execute(_FORGET, [self._days, CHUNK])).rowcount
