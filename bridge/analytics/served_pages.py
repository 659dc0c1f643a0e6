"""Writes served pages to Postgres for analysis, in the background, and drops pages rather than wait."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import psycopg
import structlog

from bridge.background.job import Job, SetAside
from bridge.domain.page import ServedPage
from bridge.postgres.pool import Database
from servicekit.bounded import BoundedQueue
from servicekit.telemetry.metrics import Metric, Metrics

BATCH: Final = 500
MAX_WAITING_BYTES: Final = 32 << 20
"""Bytes of the pages that wait for Postgres: 5,700 pages of 20 videos, or 280 of 500, where ids have 11 characters."""
PAGE_BYTES: Final = 900
VIDEO_BYTES: Final = 192
"""What a waiting page takes of the memory, and each video on it beside the characters of its id."""
PAUSE_S: Final = 0.5
RETRY_S: Final = 2.0
_REFUSED: Final = (psycopg.DataError, psycopg.IntegrityError, ValueError, TypeError)
"""What is raised for a page that can never be written; after anything else it may be, later."""
_COPY: Final = """
COPY feed_cache (created_at, feed_session_id, page, user_id, surface, served_by, fallback_reason, algorithm,
                 model_version, experiment_variant_id, video_ids) FROM STDIN
"""

logger = structlog.get_logger(__name__)


class ServedPageLog:
    """Writes served pages in batches; beyond a bound, the oldest that wait are dropped and counted.

    Args:
        database: Where they go.
        metrics: Told how many were dropped.
        waiting_bytes: Bytes of the pages that wait at most.
        sleep: Waits between batches.
    """

    def __init__(
        self,
        database: Database,
        metrics: Metrics,
        *,
        waiting_bytes: int = MAX_WAITING_BYTES,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._waiting: BoundedQueue[ServedPage] = BoundedQueue(waiting_bytes, page_bytes)
        self._dropped = 0
        self._set_aside = SetAside("feed-cache", metrics)
        self._job = Job("feed-cache", self._step, interval_s=PAUSE_S, retry_s=RETRY_S, metrics=metrics, sleep=sleep)

    def add(self, served: ServedPage) -> None:
        """Queue a page to be written."""
        self._dropped += self._waiting.push(served)

    async def keep_writing(self) -> None:
        """Write queued pages, again and again; forever."""
        await self._job.run()

    async def _step(self) -> None:
        self._report_dropped()
        await self.write()
        self._set_aside.report()

    async def write(self) -> None:
        """Write queued pages; on DatabaseUnavailableError they stay for the next time."""
        while batch := self._waiting.take(BATCH):
            await self._write_apart(batch)

    async def _write_apart(self, batch: Sequence[ServedPage]) -> None:
        """Write a batch; a page that Postgres refuses is found by halves, and no other is lost with it."""
        parts = [batch]  # the next one last
        while parts:
            part = parts.pop()
            try:
                await self._write(part)
            except _REFUSED as error:
                if len(part) > 1:
                    middle = len(part) // 2
                    parts += [part[middle:], part[:middle]]
                else:
                    self._dropped += 1
                    self._set_aside.add(part[0].feed_session_id, error)
            except BaseException:
                self._dropped += self._waiting.give_back([page for one in (part, *reversed(parts)) for page in one])
                raise

    async def _write(self, batch: Sequence[ServedPage]) -> None:
        async with self._database.connection() as connection, connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            await copy.write("".join(map(_line, batch)))

    def _report_dropped(self) -> None:
        if self._dropped:
            self._metrics.count(Metric.FEED_CACHE_DROPPED, self._dropped)
            logger.warning("feed_cache.dropped", pages=self._dropped)
            self._dropped = 0


def page_bytes(served: ServedPage) -> int:
    """Return the bytes that a queued page holds in memory, however large callers make it."""
    characters = sum([len(video_id) for video_id, _ in served.page.videos])
    # A text with one character beyond the basic plane takes four bytes for each of its characters.
    return PAGE_BYTES + VIDEO_BYTES * len(served.page.videos) + 4 * characters


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
