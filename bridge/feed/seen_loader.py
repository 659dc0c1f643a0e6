"""Loads from Postgres, in the background, which videos a user has seen, once the user gets trending pages."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from bridge.background.job import Job
from bridge.domain.page import ServedBy, ServedPage
from bridge.feed.seen_videos import MAX_VIDEOS, SeenVideos
from bridge.postgres.pool import Database
from servicekit.inputs.identifiers import MAX_ID_BYTES
from servicekit.telemetry.metrics import NO_METRICS, Metrics

MAX_WAITING: Final = 1000
BATCH: Final = 100
PAUSE_S: Final = 0.2
RETRY_S: Final = 5.0

_SEEN: Final = f"""
SELECT asked, ARRAY(
    SELECT video_id FROM user_interactions WHERE user_id = asked AND interaction_type <> 'search'
        AND octet_length(video_id) <= {MAX_ID_BYTES}
    ORDER BY occurred_at DESC LIMIT %(videos)s
) FROM unnest(%(users)s::text[]) AS asked
"""  # noqa: S608  # its parts are constants


class SeenLoader:
    """Fills the memory of seen videos; LightFM excludes them by itself, so only trending pages need it.

    The first trending page of a user comes without it; the next one has it.

    Args:
        database: Holds the interactions.
        seen: The memory.
        metrics: Counts batches that failed.
        sleep: Waits between batches.
    """

    def __init__(
        self,
        database: Database,
        seen: SeenVideos,
        *,
        metrics: Metrics = NO_METRICS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._seen = seen
        self._waiting: dict[str, None] = {}
        self._job = Job("seen", self.load, interval_s=PAUSE_S, retry_s=RETRY_S, metrics=metrics, sleep=sleep)

    def note(self, served: ServedPage) -> None:
        """Queue the user of a page; beyond a bound, a later page queues the user again."""
        wanted = served.user_id and served.page.served_by is ServedBy.TRENDING
        if wanted and len(self._waiting) < MAX_WAITING and not self._seen.loaded(served.user_id):
            self._waiting[served.user_id] = None

    async def keep_loading(self) -> None:
        """Load the queued users; forever."""
        await self._job.run()

    async def load(self) -> None:
        """Load one batch of users; on DatabaseUnavailableError they stay in the queue."""
        users = list(self._waiting)[:BATCH]
        if not users:
            return
        async with self._database.connection() as connection:
            cursor = await connection.execute(_SEEN, {"users": users, "videos": MAX_VIDEOS})
            rows = await cursor.fetchall()
        for user_id, videos in rows:
            self._seen.load(user_id, reversed(videos))
            self._waiting.pop(user_id, None)
