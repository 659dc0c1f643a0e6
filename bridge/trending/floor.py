"""The oldest hour that counts: what is older is dropped from counts, scores and marks.

Counts are kept for two windows. They are kept for longer where fewer videos trend than fill pages, as after a quiet
week or with imported history only: no more than the hours of four windows in which anything was counted.
"""

from typing import Final

from bridge.postgres.pool import Connection
from bridge.trending.counts import IS_OLDER, drop_old
from bridge.trending.progress import FIRST_HOUR, HOUR_S, Progress

WINDOWS: Final = 2
MAX_WINDOWS: Final = 4
SWEPT_AT_A_TIME: Final = 5_000

_ENOUGH: Final = """
SELECT strength FROM trending_scores
WHERE surface = '' AND country = '' AND language = '' AND strength IS NOT NULL
ORDER BY strength DESC OFFSET %s LIMIT 1
"""
_ACTIVE: Final = """
WITH RECURSIVE hours AS (
    (SELECT hour, 1 AS number FROM trending_hours ORDER BY hour DESC LIMIT 1)
    UNION ALL
    SELECT (SELECT max(older.hour) FROM trending_hours AS older WHERE older.hour < hours.hour), number + 1
    FROM hours WHERE hour IS NOT NULL AND number < %(most)s
)
SELECT hour FROM hours WHERE number = %(most)s AND hour IS NOT NULL
"""
_RAISE: Final = "UPDATE trending_progress SET floor_hour = greatest(floor_hour, %s) RETURNING floor_hour"
_BEFORE_OLDER: Final = f"""
SELECT floor(extract(epoch FROM max(occurred_at)) / 3600)::integer FROM user_interactions
WHERE occurred_at <= %(made_at)s - make_interval(hours => %(window_h)s) AND occurred_at > '0001-02-01 00:00Z'
    AND {IS_OLDER}
"""  # noqa: S608  # a constant
_OLDER_FROM: Final = """
UPDATE trending_progress SET older_at = greatest(older_at, to_timestamp(%s))
WHERE older_at IS NOT NULL RETURNING older_at::text
"""
# Partitions of whole weeks are dropped with the daily care of the schema.
_SWEEP: Final = """
DELETE FROM trending_marks_default WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM trending_marks_default WHERE day < %s LIMIT %s
))
"""


async def begin_older(connection: Connection, progress: Progress) -> None:
    """Let what is older than the column of transactions count from the last window before the newest one."""
    values = {**progress.parameters(), "window_h": progress.window_h}
    (newest,) = await (await connection.execute(_BEFORE_OLDER.encode(), values)).fetchone() or (None,)
    floor = FIRST_HOUR if newest is None else newest - progress.window_h
    (raised,) = await (await connection.execute(_RAISE, [floor])).fetchone() or (floor,)
    if raised > FIRST_HOUR:
        days = raised // 24 - progress.window_days
        await connection.execute(_OLDER_FROM, [days * 86_400])


async def raise_floor(connection: Connection, progress: Progress, enough: int) -> int:
    """Raise the floor if enough videos trend, or too much is kept; return the hour."""
    floors = [progress.floor_hour]
    (strength,) = await (await connection.execute(_ENOUGH, [enough - 1])).fetchone() or (None,)
    if strength is not None:
        worth = min(progress.newest_hour, int(strength * progress.half_life_s / HOUR_S))
        floors.append(worth - WINDOWS * progress.window_h)
    (active,) = await (await connection.execute(_ACTIVE, {"most": MAX_WINDOWS * progress.window_h})).fetchone() or (
        None,
    )
    if active is not None:
        floors.append(active)
    await connection.execute(_RAISE, [max(floors)])
    return max(floors)


async def drop_below(connection: Connection, progress: Progress, most: int) -> bool:
    """Drop some counts from before the floor, at most so many; return whether there may be more."""
    return await drop_old(connection, progress.parameters(), most) == most


async def sweep(connection: Connection, progress: Progress) -> bool:
    """Forget some old marks of weeks without a partition; return whether there may be more."""
    return (await connection.execute(_SWEEP, [progress.oldest_day, SWEPT_AT_A_TIME])).rowcount == SWEPT_AT_A_TIME
