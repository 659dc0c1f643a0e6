"""Keeps messages that Kafka refused for good in Postgres, apart from the outbox, until people replay them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog

from bridge.postgres.pool import Connection

MAX_SHOWN: Final = 20

_SET_ASIDE: Final = """
WITH refused AS (SELECT * FROM unnest(%s::uuid[], %s::text[]) AS rows (id, reason)),
gone AS (DELETE FROM interactions_outbox WHERE id IN (SELECT id FROM refused) RETURNING *)
INSERT INTO interactions_outbox_dead (id, aggregatetype, aggregateid, type, payload, headers, created_at, reason)
SELECT id, aggregatetype, aggregateid, type, payload, headers, created_at, reason FROM gone JOIN refused USING (id)
ON CONFLICT DO NOTHING
"""
_PUT_BACK: Final = """
WITH gone AS (DELETE FROM interactions_outbox_dead RETURNING *)
INSERT INTO interactions_outbox (id, aggregatetype, aggregateid, type, payload, headers, created_at)
SELECT id, aggregatetype, aggregateid, type, payload, headers, created_at FROM gone ORDER BY created_at, id
ON CONFLICT DO NOTHING
"""
_SHOW: Final = """
SELECT id, aggregatetype, aggregateid, refused_at, reason FROM interactions_outbox_dead ORDER BY refused_at, id LIMIT %s
"""

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Dead:
    """A refused message: its event, its topic, the time and the reason of the refusal."""

    event_id: UUID
    topic: str
    key: str
    refused_at: datetime
    reason: str


async def set_aside(connection: Connection, refused: Mapping[UUID, str]) -> None:
    """Move refused messages out of the outbox, each with its reason, in the caller's transaction."""
    await connection.execute(_SET_ASIDE, [[*refused.keys()], [*refused.values()]])
    for event_id, reason in refused.items():
        logger.error("outbox.dead_letter", event_id=str(event_id), reason=reason)


async def put_back(connection: Connection) -> int:
    """Move all refused messages to the outbox again, for the relay; return how many."""
    return (await connection.execute(_PUT_BACK)).rowcount


async def count_dead(connection: Connection) -> int:
    """Return how many refused messages there are."""
    row = await (await connection.execute("SELECT count(*) FROM interactions_outbox_dead")).fetchone()
    return int(row[0]) if row else 0


async def show_dead(connection: Connection, most: int = MAX_SHOWN) -> list[Dead]:
    """Return the refused messages, earliest first."""
    return [Dead(*row) for row in await (await connection.execute(_SHOW, [most])).fetchall()]
