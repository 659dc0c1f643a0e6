"""Computes features of users from their recent interactions, and publishes them for other teams' models."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import structlog

from bridge.background.job import Job, SetAside
from bridge.kafka.message import Message, iso_milliseconds
from bridge.kafka.topics import FEATURES_TOPIC
from bridge.outbox.outbox import Publisher
from bridge.postgres.pool import Database
from servicekit.inputs.identifiers import identifier_problem
from servicekit.telemetry.metrics import NO_METRICS, Metrics

LOCK: Final = 4_701_004
MAX_USERS: Final = 10_000
CHUNK: Final = 100
"""Messages sent before live traffic has its turn."""

# Users who did something since the last time, and what they did in a week. An event counts as of when it happened, but
# never later than Postgres took it in, and sums stay within what they are sent as, whatever the rows hold.
_FEATURES: Final = """
WITH active AS (
    SELECT DISTINCT user_id FROM user_interactions
    WHERE occurred_at >= now() - make_interval(secs => %(interval_s)s)
      AND recorded_at >= now() - make_interval(secs => %(interval_s)s) LIMIT %(most)s
)
SELECT user_id, count(*), count(*) FILTER (WHERE interaction_type = 'watch'),
    count(*) FILTER (WHERE interaction_type IN ('like', 'favorite', 'share', 'comment', 'follow')),
    least(coalesce(sum(greatest(watch_time_ms, 0)), 0), 9007199254740992)::bigint,
    (SELECT avg(completion_rate) FROM playback_sessions AS sessions
     WHERE sessions.user_id = active.user_id AND (completion_rate = 0 OR completion_rate BETWEEN 0.000001 AND 1))
FROM active JOIN user_interactions USING (user_id)
WHERE occurred_at >= now() - interval '7 days' AND recorded_at >= now() - interval '7 days' GROUP BY user_id
"""

logger = structlog.get_logger(__name__)


class Features:
    """Publishes the features of active users at an interval; of several processes one does it at a time.

    Args:
        database: Where interactions are.
        publisher: Where messages go; one that is lost is replaced by the next.
        interval_s: Seconds between two publications.
        metrics: Counts publications that failed, and of users whose features could not be published.
        sleep: Waits.
    """

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        *,
        interval_s: float,
        metrics: Metrics = NO_METRICS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._interval_s = interval_s
        self._sleep = sleep
        self._set_aside = SetAside("features", metrics)
        self._job = Job("features", self._step, interval_s=interval_s, metrics=metrics, sleep=sleep)

    async def run(self) -> None:
        """Publish at each interval; forever."""
        await self._sleep(self._interval_s)
        await self._job.run()

    async def _step(self) -> None:
        await self.publish()

    async def publish(self) -> int:
        """Publish the features of users who were active since the last time; return the number of users."""
        async with self._database.connection() as connection:
            lock = await (await connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])).fetchone()
            if lock is None or not lock[0]:
                return 0
            parameters = {"interval_s": 2 * self._interval_s, "most": MAX_USERS}
            rows = await (await connection.execute(_FEATURES, parameters)).fetchall()
        computed_at = iso_milliseconds(datetime.now(UTC))
        messages = self._set_aside.usable(rows, lambda row: _message(row[0], row[1:], computed_at), lambda row: row[0])
        published = 0
        for message in messages:
            if published % CHUNK == 0:
                await self._sleep(0)
            self._publisher.publish(message, _ignore)
            published += 1
        self._set_aside.report()
        logger.info("features.published", users=published)
        return published


def _message(user_id: str, features: Sequence[float | None], computed_at: str) -> Message:
    """Return the message of a user's features; ValueError when consumers could not read it."""
    if problem := identifier_problem(user_id):
        raise ValueError(f"the id {problem}")
    names = ("interactions7d", "watches7d", "engagements7d", "watchTime7d", "completionRate")
    event_id = uuid4()
    value = {"userId": user_id, **dict(zip(names, features, strict=True)), "timestamp": computed_at}
    return Message(
        event_id=event_id,
        topic=FEATURES_TOPIC,
        key=user_id,
        kind="features",
        value=json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")),
        headers={"event-id": str(event_id)},
    )


def _ignore(_: bool) -> None:  # noqa: FBT001  # a callback
    pass
