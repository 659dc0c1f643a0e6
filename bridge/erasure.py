"""Forgets a viewer: their rows are deleted, and a tombstone tells the consumers of each topic.

Event identifiers stay, which say nothing of a viewer: an erased event that is sent again, or read again from Kafka,
is recognised as known and not recorded anew. So does a fingerprint of the viewer with the time, which goes beside the
exports, so that nothing that was exported before is trained on.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from psycopg import sql

from bridge.database import Connection
from bridge.message import iso_milliseconds
from bridge.topics import USER_TOPICS
from servicekit.viewer_fingerprint import viewer_fingerprint

_TABLES: Final = (
    ("user_interactions", "user_id"),
    ("interactions_outbox", "aggregateid"),
    ("interactions_outbox_dead", "aggregateid"),
    ("recommendation_feedback", "user_id"),
    ("playback_sessions", "user_id"),
    ("feed_cache", "user_id"),
)
"""Where a viewer's rows are, and the column that names the viewer."""

_TOMBSTONE: Final = """
INSERT INTO interactions_outbox (id, aggregatetype, aggregateid, type, payload, headers)
VALUES (%s, %s, %s, 'erasure', NULL, json_build_object('event-id', %s::text, 'erased-at', %s::text))
"""

_NOTE: Final = """
INSERT INTO erased_viewers (mark, erased_at) VALUES (%s, now())
ON CONFLICT (mark) DO UPDATE SET erased_at = excluded.erased_at
"""


async def erase(connection: Connection, user_id: str, *, topics: Sequence[str] = USER_TOPICS) -> dict[str, int]:
    """Delete a viewer's rows and queue a tombstone for each topic, in the caller's transaction.

    Returns:
        How many rows were deleted from each table.
    """
    await connection.execute(_NOTE, [viewer_fingerprint(user_id)])
    deleted = {}
    for table, column in _TABLES:
        statement = sql.SQL("DELETE FROM {} WHERE {} = %s").format(sql.Identifier(table), sql.Identifier(column))
        deleted[table] = (await connection.execute(statement, [user_id])).rowcount
    erased_at = iso_milliseconds(datetime.now(UTC))
    for topic in topics:
        event_id = uuid4()
        await connection.execute(_TOMBSTONE, [event_id, topic, user_id, event_id, erased_at])
    return deleted


async def tombstones_left(connection: Connection, user_id: str) -> int:
    """Return how many of the viewer's tombstones Kafka does not have yet."""
    cursor = await connection.execute(
        "SELECT count(*) FROM interactions_outbox WHERE aggregateid = %s AND payload IS NULL", [user_id]
    )
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def forget_before(connection: Connection, user_id: str, timestamp_ms: int) -> int:
    """Delete the viewer's interactions up to a tombstone's time; return how many there were.

    They came from Kafka after the erasure: they had been acknowledged while Postgres was away.
    """
    cursor = await connection.execute(
        "DELETE FROM user_interactions WHERE user_id = %s AND occurred_at <= to_timestamp(%s / 1000.0)",
        [user_id, timestamp_ms],
    )
    return cursor.rowcount


async def forget_feedback_before(connection: Connection, user_id: str, timestamp_ms: int) -> int:
    """Delete the viewer's feedback up to a tombstone's time; return how much there was."""
    cursor = await connection.execute(
        "DELETE FROM recommendation_feedback WHERE user_id = %s AND occurred_at <= to_timestamp(%s / 1000.0)",
        [user_id, timestamp_ms],
    )
    return cursor.rowcount
