"""Forgets a user: their rows are deleted, and a tombstone tells the consumers of each topic.

Event identifiers stay, which say nothing of a user: an erased event that is sent again, or read again from Kafka,
is recognised as known and not recorded anew. So does a fingerprint of the user with the time, which goes beside the
exports, so that nothing that was exported before is trained on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from typing import Any, Final, LiteralString
from uuid import uuid4

from psycopg import sql

from bridge.kafka.message import iso_milliseconds
from bridge.kafka.topics import USER_TOPICS
from bridge.postgres.pool import Connection
from bridge.trending.erasing import forget_user
from servicekit.user_fingerprint import user_fingerprint

_TABLES: Final = (
    ("user_interactions", "user_id"),
    ("interactions_outbox", "aggregateid"),
    ("interactions_outbox_dead", "aggregateid"),
    ("recommendation_feedback", "user_id"),
    ("playback_sessions", "user_id"),
    ("feed_cache", "user_id"),
)
"""Where a user's rows are, and the column that names the user."""

_TOMBSTONE: Final = """
INSERT INTO interactions_outbox (id, aggregatetype, aggregateid, type, payload, headers)
VALUES (%s, %s, %s, 'erasure', NULL, json_build_object('event-id', %s::text, 'erased-at', %s::text))
"""

_ERASED: Final = "SELECT max(erased_at) FROM erased_users WHERE mark = %s"
_DAYS: Final = """
SELECT (occurred_at AT TIME ZONE 'UTC')::date AS day, count(*) FROM user_interactions
WHERE user_id = %s AND (occurred_at AT TIME ZONE 'UTC')::date < (now() AT TIME ZONE 'UTC')::date
GROUP BY day ORDER BY day
"""
_NOTE: Final = """
INSERT INTO erased_users (mark, erased_at) VALUES (%s, now())
ON CONFLICT (mark) DO UPDATE SET erased_at = excluded.erased_at
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What there is of a user.

    Attributes:
        rows: How many rows each table has.
        erased_at: When the user was erased before; None for never.
        days: Days (UTC) before today with interactions, whose exports have them too, and how many each has.
    """

    rows: Mapping[str, int]
    erased_at: datetime | None
    days: Mapping[date, int]

    @property
    def known(self) -> bool:
        """Whether anything says that there is such a user."""
        return any(self.rows.values()) or self.erased_at is not None


async def find(connection: Connection, user_id: str) -> Found:
    """Return what there is of a user."""
    rows = {}
    for table, column in _TABLES:
        statement = sql.SQL("SELECT count(*) FROM {} WHERE {} = %s").format(
            sql.Identifier(table), sql.Identifier(column)
        )
        rows[table] = int((await _row(connection, statement, user_id))[0])
    erased = await _row(connection, _ERASED, user_fingerprint(user_id))
    days = await (await connection.execute(_DAYS, [user_id])).fetchall()
    return Found(rows=rows, erased_at=erased[0], days=dict(days))


async def erase(connection: Connection, user_id: str, *, topics: Sequence[str] = USER_TOPICS) -> dict[str, int]:
    """Delete a user's rows and queue a tombstone for each topic, in the caller's transaction.

    Returns:
        How many rows were deleted from each table.
    """
    await connection.execute(_NOTE, [user_fingerprint(user_id)])
    deleted = {}
    for table, column in _TABLES:
        statement = sql.SQL("DELETE FROM {} WHERE {} = %s").format(sql.Identifier(table), sql.Identifier(column))
        delete = partial(_delete, connection, statement, [user_id])
        counted = table == "user_interactions"
        deleted[table] = await (forget_user(connection, user_id, delete) if counted else delete())
    erased_at = iso_milliseconds(datetime.now(UTC))
    for topic in topics:
        event_id = uuid4()
        await connection.execute(_TOMBSTONE, [event_id, topic, user_id, event_id, erased_at])
    return deleted


async def _row(connection: Connection, query: sql.Composed | LiteralString, value: object) -> tuple[Any, ...]:
    return await (await connection.execute(query, [value])).fetchone() or (None,)


async def _delete(connection: Connection, query: sql.Composed | LiteralString, values: Sequence[object]) -> int:
    return (await connection.execute(query, values)).rowcount


async def tombstones_left(connection: Connection, user_id: str) -> int:
    """Return how many of the user's tombstones Kafka does not have yet."""
    cursor = await connection.execute(
        "SELECT count(*) FROM interactions_outbox WHERE aggregateid = %s AND payload IS NULL", [user_id]
    )
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def forget_before(connection: Connection, user_id: str, timestamp_ms: int) -> int:
    """Delete the user's interactions up to a tombstone's time; return how many there were.

    They came from Kafka after the erasure: they had been acknowledged while Postgres was away.
    """
    statement = "DELETE FROM user_interactions WHERE user_id = %s AND occurred_at <= to_timestamp(%s / 1000.0)"
    return await forget_user(connection, user_id, partial(_delete, connection, statement, [user_id, timestamp_ms]))


async def forget_feedback_before(connection: Connection, user_id: str, timestamp_ms: int) -> int:
    """Delete the user's feedback up to a tombstone's time; return how much there was."""
    cursor = await connection.execute(
        "DELETE FROM recommendation_feedback WHERE user_id = %s AND occurred_at <= to_timestamp(%s / 1000.0)",
        [user_id, timestamp_ms],
    )
    return cursor.rowcount
