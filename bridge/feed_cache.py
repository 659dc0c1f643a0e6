"""Served pages in Postgres, for analysis: written beside the calls, and dropped rather than waited for."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import psycopg
import structlog

from bridge.database import Database, DatabaseUnavailableError
from bridge.page import ServedPage
from servicekit.telemetry import Metric, Metrics

BATCH: Final = 500
MOST_WAITING: Final = 10_000
"""Pages that wait for Postgres at most: about 20 MB."""
PAUSE_S: Final = 0.5
RETRY_S: Final = 2.0
_COPY: Final = """
COPY feed_cache (created_at, feed_session_id, page, user_id, surface, served_by, fallback_reason, algorithm,
                 model_version, experiment_variant_id, video_ids) FROM STDIN
"""

logger = structlog.get_logger(__name__)


class FeedCache:
    """Writes served pages in batches; beyond a bound, the oldest that wait are dropped and counted.

    Args:
        database: Where they go.
        metrics: Told how many were dropped.
        waiting: Pages that wait at most.
        sleep: Waits between batches.
    """

    def __init__(
        self,
        database: Database,
        metrics: Metrics,
        *,
        waiting: int = MOST_WAITING,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._sleep = sleep
        self._most = waiting
        self._waiting: deque[ServedPage] = deque()
        self._dropped = 0

    def add(self, served: ServedPage) -> None:
        """Leave a page to be written."""
        if len(self._waiting) >= self._most:
            self._waiting.popleft()
            self._dropped += 1
        self._waiting.append(served)

    async def keep_writing(self) -> None:
        """Write what waits, again and again; forever."""
        while True:
            await self._sleep(PAUSE_S)
            self._report_dropped()
            try:
                await self.write()
            except DatabaseUnavailableError:
                await self._sleep(RETRY_S)

    async def write(self) -> None:
        """Write what waits; DatabaseUnavailableError keeps it for the next time."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            try:
                await self._write(batch)
            except DatabaseUnavailableError:
                self._waiting.extendleft(reversed(batch))
                while len(self._waiting) > self._most:
                    self._waiting.popleft()
                    self._dropped += 1
                raise
            except psycopg.Error:
                self._dropped += len(batch)  # a defect: the same batch would be refused for ever
                logger.exception("feed_cache.refused", pages=len(batch))

    async def _write(self, batch: Sequence[ServedPage]) -> None:
        async with self._database.connection() as connection, connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            await copy.write("".join(map(_line, batch)))

    def _report_dropped(self) -> None:
        if self._dropped:
            self._metrics.count(Metric.FEED_CACHE_DROPPED, self._dropped)
            logger.warning("feed_cache.dropped", pages=self._dropped)
            self._dropped = 0


_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
"""Of COPY's text format."""


def _line(served: ServedPage) -> str:
    """Return one row in COPY's text format: psycopg's own takes ten times as long, which is time of the event loop."""
    page = served.page
    fields = (
        served.served_at.isoformat(),
        served.feed_session_id,
        str(served.number),
        served.user_id,
        served.surface,
        page.served_by.value,
        page.fallback_reason.value if page.fallback_reason else "",
        page.algorithm,
        page.model_version,
        served.variant_id,
        _array([video.video_id for video in page.videos]),
    )
    return "\t".join([field.translate(_ESCAPES) for field in fields]) + "\n"


def _array(values: Sequence[str]) -> str:
    """Return an array literal of Postgres."""
    if not values:
        return "{}"
    joined = "\0".join(values)
    if "\\" in joined or '"' in joined:
        joined = joined.replace("\\", "\\\\").replace('"', '\\"')
    return '{"' + joined.replace("\0", '","') + '"}'
