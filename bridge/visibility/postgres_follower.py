"""Follows in Postgres what is hidden, expired or denied, by what was committed since the last look.

Revisions are not committed in their order. So each look notes the oldest transaction that was running, and the next one
reads what that one and later ones have changed: rows may come twice, and none is missed.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from bridge.background.job import Job, SetAside
from bridge.domain.deadline import Clock
from bridge.postgres.pool import Connection, Database, DatabaseUnavailableError
from bridge.visibility.changes import MAX_INSTANT_S, Authorship, Kind, Limits, Stored, Works
from bridge.visibility.hidden import Hidden
from servicekit.telemetry.metrics import NO_METRICS, Metrics

LOOK_S: Final = 0.25
VIDEOS_LOOK_S: Final = 1.0
REST: Final = 9.0
"""How many times as long as a look at the videos took the next one waits at least."""
WHOLE_S: Final = 3600.0
"""Seconds between two looks at everything, which find what was deleted."""
FETCH_ROWS: Final = 500
MAX_AUTHORS: Final = 20
"""Hidden authors whose videos are asked for in one look."""

_HORIZON: Final = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text, catalogue_last_revision()"
_VISIBILITY: Final = {
    Kind.VIDEO: "SELECT video_id, revision, hidden, stored_hides FROM video_visibility WHERE hide_revision IS NOT NULL",
    Kind.AUTHOR: (
        "SELECT author_id, revision, hidden, stored_hides FROM author_visibility WHERE hide_revision IS NOT NULL"
    ),
}
_CHANGED: Final = " AND changed_in >= %s::xid8"
_NAMED: Final = {Kind.VIDEO: " AND video_id = ANY(%s)", Kind.AUTHOR: " AND author_id = ANY(%s)"}
_WORKS: Final = "SELECT video_id FROM videos WHERE author_id = %s"
_LIMITED: Final = """
SELECT video_id, coalesce(author_id, ''), coalesce(revision, 0), extract(epoch FROM expires_at)::float8,
    allowed_countries, denied_countries
FROM videos
"""
_ANY_LIMITS: Final = " WHERE expires_at IS NOT NULL OR allowed_countries <> '{}' OR denied_countries <> '{}'"

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Horizon:
    """Since when the next look reads, and the last revision that was given by then."""

    transaction: str
    revision: int


class PostgresFollower:
    """Keeps the hidden set as Postgres has it.

    Args:
        hidden: The hidden set.
        database: Is followed.
        metrics: Told of failures.
        clock: Monotonic seconds.
        sleep: Waits between two looks.
    """

    def __init__(
        self,
        hidden: Hidden,
        database: Database,
        *,
        metrics: Metrics = NO_METRICS,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._hidden = hidden
        self._database = database
        self._clock = clock
        self._looked_at: _Horizon | None = None
        self._whole_at = -math.inf
        self._authors_due: list[str] = []
        self._videos_from: _Horizon | None = None
        self._videos_whole_at = -math.inf
        self._set_aside = SetAside("visibility", metrics)
        self._job = Job("visibility", self._look, interval_s=LOOK_S, retry_s=LOOK_S, metrics=metrics, sleep=sleep)
        self._videos = Job(
            "limits",
            self._look_at_videos,
            interval_s=VIDEOS_LOOK_S,
            retry_s=VIDEOS_LOOK_S,
            metrics=metrics,
            sleep=sleep,
        )
        self.revision = -1
        """The last revision that had been given when Postgres was last looked at."""
        self.followed = asyncio.Event()
        """Set once everything has been read."""

    async def follow(self) -> None:
        """Look at what is hidden; forever."""
        await self._job.run()

    async def follow_videos(self) -> None:
        """Look at when and where videos may be shown; forever."""
        await self._videos.run()

    async def _look(self) -> None:
        as_of_s, at = self._hidden.clocks()
        since = None if self._clock() - self._whole_at > WHOLE_S else self._looked_at
        try:
            async with self._database.statements() as connection:
                horizon = await _horizon(connection)
                for kind in Kind:
                    await self._read_visibility(connection, kind, since)
                if since is None:
                    self._authors_due = self._hidden.set.hidden_authors()
                await self._read_works(connection)
        except DatabaseUnavailableError:
            self._looked_at = None  # another one may answer the next time
            raise
        if since is None:
            self._whole_at = self._clock()
        self._looked_at = horizon
        self.revision = horizon.revision
        self._hidden.heard(as_of_s, at)
        self.followed.set()
        self._set_aside.report()
        await self._hidden.keep()

    async def _read_visibility(self, connection: Connection, kind: Kind, since: _Horizon | None) -> None:
        query, values = _VISIBILITY[kind], list[object]()
        if since is not None:
            query, values = query + _CHANGED, [since.transaction]
        async for rows in _batches(connection, query, values):
            self._take_in(kind, rows)
        if untaken := self._hidden.set.untaken(kind):
            async for rows in _batches(connection, _VISIBILITY[kind] + _NAMED[kind], [untaken]):
                self._take_in(kind, rows)

    def _take_in(self, kind: Kind, rows: Sequence[tuple[Any, ...]]) -> None:
        def stored(row: tuple[Any, ...]) -> Stored:
            name, revision, hidden, taken_in = row
            return Stored(kind=kind, id=name, revision=revision, hidden=hidden, taken_in=tuple(taken_in))

        self._hidden.take_in(self._set_aside.usable(rows, stored, lambda row: row[0]))

    async def _read_works(self, connection: Connection) -> None:
        """Read which videos are by hidden authors: where that is not known, else where it may have changed."""
        authors = [*self._hidden.unresolved_authors()][:MAX_AUTHORS]
        if not authors:
            authors, self._authors_due = self._authors_due[:MAX_AUTHORS], self._authors_due[MAX_AUTHORS:]
        for author_id in authors:
            video_ids: list[str] = []
            async for rows in _batches(connection, _WORKS, [author_id]):
                video_ids += [row[0] for row in rows]
            self._hidden.take_in([Works(author_id=author_id, video_ids=tuple(video_ids))])

    async def _look_at_videos(self) -> float:
        began = self._clock()
        since = None if began - self._videos_whole_at > WHOLE_S else self._videos_from
        limited: set[str] = set()
        try:
            async with self._database.statements() as connection:
                horizon = await _horizon(connection)
                query, values = _LIMITED + _ANY_LIMITS, list[object]()
                if since is not None:
                    query, values = f"{_LIMITED} WHERE changed_in >= %s::xid8", [since.transaction]
                async for rows in _batches(connection, query, values):
                    limited.update(row[0] for row in rows)
                    self._take_in_videos(rows)
        except DatabaseUnavailableError:
            self._videos_from = None
            raise
        if since is None:
            self._hidden.set.forget_limits(but=limited, until=horizon.revision)
            self._videos_whole_at = began
        self._videos_from = horizon
        await self._hidden.keep()
        self._hidden.report()
        return max(VIDEOS_LOOK_S, REST * (self._clock() - began))

    def _take_in_videos(self, rows: Sequence[tuple[Any, ...]]) -> None:
        for both in self._set_aside.usable(rows, _changes_of_video, lambda row: row[0]):
            limits, by = both
            concerns = self._hidden.set.concerns(by.video_id, by.author_id)
            self._hidden.take_in([limits, by] if concerns else [limits])


def _changes_of_video(row: tuple[Any, ...]) -> tuple[Limits, Authorship]:
    video_id, author_id, revision, expires_at_s, allowed, denied = row
    limits = Limits(
        video_id=video_id,
        revision=revision,
        expires_at_s=_bounded(expires_at_s),
        allowed=frozenset(allowed),
        denied=frozenset(denied),
    )
    return limits, Authorship(video_id=video_id, author_id=author_id)


def _bounded(expires_at_s: float | None) -> float:
    """Return when a video expires, never for a time that nobody lives to see; Postgres has infinite ones."""
    if expires_at_s is None or expires_at_s > MAX_INSTANT_S:
        return math.inf
    return max(-MAX_INSTANT_S, expires_at_s)


async def _horizon(connection: Connection) -> _Horizon:
    row = await (await connection.execute(_HORIZON)).fetchone()
    transaction, revision = row or ("0", 0)
    return _Horizon(transaction, revision)


async def _batches(
    connection: Connection, query: str, values: Sequence[object]
) -> AsyncIterator[list[tuple[Any, ...]]]:
    async with connection.cursor() as cursor:
        await cursor.execute(query, values)
        while rows := await cursor.fetchmany(FETCH_ROWS):
            yield rows
            await asyncio.sleep(0)  # decoded all at once, thousands would hold up calls
