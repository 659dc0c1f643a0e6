"""Hides and restorations in the tables of visibility. Their triggers add revisions and outbox rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from bridge.postgres.pool import Connection
from bridge.visibility.changes import Kind, Stored
from bridge.visibility.record import MAX_STORED_HIDES, KafkaHide

_TABLES: Final = {Kind.VIDEO: ("video_visibility", "video_id"), Kind.AUTHOR: ("author_visibility", "author_id")}

# A hide that stands keeps its revision, reason and actor. One that came before, and was lifted since, hides nothing
# again when it comes once more.
_HIDE: Final = """
INSERT INTO {table} AS old ({column}, hidden, reason, actor, since, stored_hides)
SELECT id, true, reason, actor, coalesce(since, now()), ARRAY[hide_id]
FROM unnest(%(ids)s::text[], %(hides)s::text[], %(reasons)s::text[], %(actors)s::text[], %(since)s::timestamptz[])
    AS given (id, hide_id, reason, actor, since)
ORDER BY id
ON CONFLICT ({column}) DO UPDATE SET
    hidden = true,
    reason = CASE WHEN old.hidden THEN old.reason ELSE excluded.reason END,
    actor = CASE WHEN old.hidden THEN old.actor ELSE excluded.actor END,
    since = CASE WHEN old.hidden THEN old.since ELSE excluded.since END,
    stored_hides = (old.stored_hides || excluded.stored_hides)
        [greatest(1, cardinality(old.stored_hides) + 2 - {most}) : cardinality(old.stored_hides) + 1]
    WHERE NOT excluded.stored_hides <@ old.stored_hides AND (%(repeats)s OR NOT old.hidden)
RETURNING {column}
"""
_STATES: Final = """
SELECT {column}, hidden, coalesce(hide_revision, 0), revision, stored_hides FROM {table} WHERE {column} = ANY(%s)
"""
_LOCK: Final = """
SELECT {column}, hidden, coalesce(hide_revision, 0), revision, stored_hides FROM {table}
WHERE {column} = ANY(%s) AND hide_revision IS NOT NULL ORDER BY {column} FOR NO KEY UPDATE
"""
_RESTORE: Final = """
UPDATE {table} SET hidden = false, restore_reason = %s, restored_by = %s, restored_at = now()
WHERE {column} = ANY(%s) RETURNING {column}, revision
"""
_RECORDS: Final = """
SELECT id, aggregateid, type, payload::text FROM interactions_outbox
WHERE aggregateid = ANY(%s) AND transaction_id = pg_current_xact_id()
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """A hide as Postgres has it.

    Attributes:
        revision: Its own.
        created: Whether it is new.
        state: What is known of the video or author now.
    """

    revision: int
    created: bool
    state: Stored


@dataclass(frozen=True, slots=True)
class Lifted:
    """A hide that was lifted, now or before."""

    revision: int
    changed: bool
    state: Stored


@dataclass(frozen=True, slots=True)
class NotLifted:
    """A hide that was not lifted, as it is not known or, where there is a later one, not the one that counts."""

    later_revision: int


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A record that waits for Kafka."""

    id: UUID
    key: str
    kind: str
    payload: str | None


async def hide(
    connection: Connection, kind: Kind, hides: Mapping[str, UUID], reason: str, actor: str
) -> dict[str, Taken]:
    """Hide videos or authors, each by a hide of its own; return what is stored of each."""
    count = len(hides)
    values = {
        "ids": [*hides],
        "hides": [*map(str, hides.values())],
        "reasons": [reason] * count,
        "actors": [actor] * count,
        "since": [None] * count,
        "repeats": False,
    }
    created = {row[0] for row in await _rows(connection, kind, _HIDE, values)}
    return {
        name: Taken(hide_revision, name in created, state)
        for name, (hide_revision, state) in (await _states(connection, kind, [*hides])).items()
    }


async def take_in(connection: Connection, hides: Iterable[KafkaHide]) -> int:
    """Store hides that Kafka alone has; return how many hid something that was not hidden."""
    new = 0
    for one in sorted(hides, key=lambda one: (one.kind, one.id, one.hide_id)):
        before = await _states(connection, one.kind, [one.id])
        values = {
            "ids": [one.id],
            "hides": [str(one.hide_id)],
            "reasons": [one.reason],
            "actors": [one.actor],
            "since": [one.since],
            "repeats": True,
        }
        written = await _rows(connection, one.kind, _HIDE, values)
        new += bool(written) and not (one.id in before and before[one.id][1].hidden)
    return new


async def restore(
    connection: Connection, kind: Kind, wanted: Mapping[str, int], reason: str, actor: str
) -> dict[str, Lifted | NotLifted]:
    """Lift hides by their revisions; return the outcome of each."""
    rows = {row[0]: row[1:] for row in await _rows(connection, kind, _LOCK, [[*wanted]])}
    due = [name for name, revision in wanted.items() if name in rows and rows[name][:2] == (True, revision)]
    lifted = dict(await _rows(connection, kind, _RESTORE, [reason, actor, due])) if due else {}
    outcomes: dict[str, Lifted | NotLifted] = {}
    for name, revision in wanted.items():
        hidden, hide_revision, state_revision, taken_in = rows.get(name, (False, 0, 0, ()))
        if name in lifted or (not hidden and hide_revision == revision and hide_revision):
            now = lifted.get(name, state_revision)
            state = Stored(kind=kind, id=name, revision=now, hidden=False, taken_in=tuple(taken_in))
            outcomes[name] = Lifted(now, changed=name in lifted, state=state)
        else:
            outcomes[name] = NotLifted(hide_revision if hide_revision > revision else 0)
    return outcomes


async def records(connection: Connection, kind: Kind, names: Iterable[str]) -> list[OutboxRow]:
    """Return the records that this transaction has made for videos or authors."""
    keys = [f"{kind}:{name}" for name in names]
    return [OutboxRow(*row) for row in await (await connection.execute(_RECORDS, [keys])).fetchall()]


async def _states(connection: Connection, kind: Kind, names: Sequence[str]) -> dict[str, tuple[int, Stored]]:
    found = {}
    for name, hidden, hide_revision, revision, taken_in in await _rows(connection, kind, _STATES, [names]):
        state = Stored(kind=kind, id=name, revision=revision, hidden=hidden, taken_in=tuple(taken_in))
        found[name] = (hide_revision, state)
    return found


async def _rows(connection: Connection, kind: Kind, query: str, values: Any) -> list[tuple[Any, ...]]:
    table, column = _TABLES[kind]
    statement = query.format(table=table, column=column, most=MAX_STORED_HIDES)
    return await (await connection.execute(statement, values)).fetchall()
