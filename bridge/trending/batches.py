"""The interactions that trending has not counted yet, some at a time.

What is committed is read below the oldest running transaction only: no earlier one can turn up there any more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from bridge.background.job import SetAside
from bridge.postgres.pool import Connection
from bridge.trending.counts import COMMITTED, IS_OLDER, OLDER, count, take_back_unliked
from bridge.trending.formula import PROBLEM, TAKES_BACK
from bridge.trending.progress import LAST_ID, Progress

_NOW: Final = """
SELECT pg_snapshot_xmin(current)::text::bigint, pg_snapshot_xmax(current)::text::bigint, now()
FROM pg_current_snapshot() AS current
"""
_SUMMARY: Final = f"""
SELECT count(*), count(*) FILTER (WHERE interaction_type = '{TAKES_BACK[0]}'), count(problem),
    (array_agg(position ORDER BY place DESC))[1], (array_agg(event_id ORDER BY place DESC))[1],
    least(max(recorded_at) FILTER (WHERE problem IS NULL), now())
FROM batch
"""  # noqa: S608  # a constant
_COMMITTED_BATCH: Final = f"""
WITH batch AS (
    SELECT transaction_id AS position, event_id, interaction_type, recorded_at, {PROBLEM} AS problem,
        row_number() OVER (ORDER BY transaction_id, event_id) AS place
    FROM user_interactions
    WHERE recorded_at >= %(restored_at)s::timestamptz
        AND transaction_id >= %(transaction_id)s AND transaction_id < %(end)s
        AND (transaction_id, event_id) > (%(transaction_id)s, %(event_id)s)
    ORDER BY transaction_id, event_id LIMIT %(most)s
) {_SUMMARY}
"""  # noqa: S608  # its parts are constants
_OLDER_BATCH: Final = f"""
WITH batch AS (
    SELECT occurred_at::text AS position, event_id, interaction_type, recorded_at, {PROBLEM} AS problem,
        row_number() OVER (ORDER BY occurred_at, event_id) AS place
    FROM user_interactions
    WHERE {IS_OLDER} AND (occurred_at, event_id) > (%(older_at)s::timestamptz, %(older_id)s)
        AND occurred_at >= %(older_at)s::timestamptz AND occurred_at <= %(made_at)s + interval '1 day'
    ORDER BY occurred_at, event_id LIMIT %(most)s
) {_SUMMARY}
"""  # noqa: S608  # its parts are constants
_ODD: Final = f"""
SELECT problem, min(video_id), count(*)
FROM (SELECT {PROBLEM} AS problem, left(video_id, 128) AS video_id FROM user_interactions WHERE {{rows}}) AS read
WHERE problem IS NOT NULL GROUP BY problem
"""  # noqa: S608  # its parts are constants


@dataclass(frozen=True, kw_only=True, slots=True)
class Now:
    """The database now: its oldest running transaction, its next one, and its time."""

    oldest: int
    next: int
    time: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Rows that were not counted, and what came of them.

    Attributes:
        progress: How far is counted with them.
        rows: How many there were.
        full: Whether there were as many as could be.
        more: Whether others are left.
        counted_at: Until when everything is counted; None where that is not known.
        newest_hour: In which one of them counts; None for none.
    """

    progress: Progress
    rows: int
    full: bool
    more: bool
    counted_at: datetime | None
    newest_hour: int | None = None


async def database_now(connection: Connection) -> Now:
    """Return the state of the database."""
    oldest, following, time = await (await connection.execute(_NOW)).fetchone() or (0, 0, None)
    return Now(oldest=oldest, next=following, time=time)


async def count_committed(
    connection: Connection,
    progress: Progress,
    now: Now,
    set_aside: SetAside,
    *,
    most: int,
    span: int,
    skip: Exception | None = None,
) -> Batch:
    """Count what was committed next, at most so many rows and transactions; or set it aside where it cannot be."""
    end = max(min(progress.transaction_id + 1 + span, now.oldest), progress.transaction_id)
    position = {"transaction_id": progress.transaction_id, "event_id": progress.event_id}
    found = await _summary(
        connection, _COMMITTED_BATCH, {**progress.parameters(), **position, "end": end, "most": most}
    )
    rows, unlikes, odd, last_transaction_id, last_event_id, recorded_at = found
    full = rows == most
    moved = replace(progress, transaction_id=max(end - 1, progress.transaction_id), event_id=LAST_ID)
    if full:
        moved = replace(progress, transaction_id=last_transaction_id, event_id=last_event_id)
    elif end - 1 < progress.transaction_id:
        moved = progress
    newest_hour = None
    if rows and skip:
        set_aside.add(str(last_event_id), skip, rows)
    elif rows:
        values = position | {"last_transaction_id": last_transaction_id, "last_event_id": last_event_id}
        newest_hour = await _count(connection, progress, COMMITTED, values, set_aside, unlikes=unlikes, odd=odd)
    more = full or end < now.oldest
    idle = moved == progress and now.next > now.oldest  # a transaction holds others back
    counted_at = recorded_at if more else None if idle else now.time
    return Batch(progress=moved, rows=rows, full=full, more=more, counted_at=counted_at, newest_hour=newest_hour)


async def count_older(
    connection: Connection, progress: Progress, set_aside: SetAside, *, most: int, skip: Exception | None = None
) -> Batch:
    """Count interactions that are older than the column of their transaction; or set them aside."""
    position = {"older_at": progress.older_at, "older_id": progress.older_id}
    found = await _summary(connection, _OLDER_BATCH, {**progress.parameters(), **position, "most": most})
    rows, unlikes, odd, last_at, last_id, _ = found
    full = rows == most
    newest_hour = None
    if rows and skip:
        set_aside.add(str(last_id), skip, rows)
    elif rows:
        values = position | {"last_older_at": last_at, "last_older_id": last_id}
        newest_hour = await _count(connection, progress, OLDER, values, set_aside, unlikes=unlikes, odd=odd)
    moved = replace(progress, older_at=last_at if full else None, older_id=last_id if full else progress.older_id)
    return Batch(progress=moved, rows=rows, full=full, more=True, counted_at=None, newest_hour=newest_hour)


async def _summary(connection: Connection, query: str, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
    return await (await connection.execute(query.encode(), parameters)).fetchone() or (0, 0, 0, None, None, None)


async def _count(
    connection: Connection,
    progress: Progress,
    rows: str,
    values: Mapping[str, Any],
    set_aside: SetAside,
    *,
    unlikes: int,
    odd: int,
) -> int | None:
    parameters = {**progress.parameters(), **values}
    if unlikes:
        await take_back_unliked(connection, rows, parameters)
    counted = await count(connection, rows, parameters)
    if odd:
        query = _ODD.format(rows=rows).encode()
        for problem, name, number in await (await connection.execute(query, parameters)).fetchall():
            set_aside.add(name, problem, number)
    return counted.newest_hour
