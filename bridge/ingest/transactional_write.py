"""Events other than interactions: one transaction for an event's rows and its messages, published after the commit."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

from bridge.domain.deadline import Clock
from bridge.ingest.acknowledgement import NotDurableError
from bridge.kafka.message import Message
from bridge.outbox.outbox import Accepted, Outbox
from bridge.postgres.availability import Availability
from bridge.postgres.pool import Connection, ConnectionBrokenError, Database, DatabaseUnavailableError

T = TypeVar("T")
Work = Callable[[Connection], Awaitable[tuple[T, Sequence[Message]]]]
"""Writes rows; returns its result, and the messages that tell of them."""

_QUEUE: Final = """
WITH queued AS (
    INSERT INTO interactions_outbox (id, aggregatetype, aggregateid, type, payload, headers)
    VALUES (%s, %s, %s, %s, %s::json, (SELECT json_object(%s::text[], %s::text[])))
)
SELECT ARRAY(SELECT id FROM interactions_outbox WHERE aggregateid = %s)
"""


class TransactionalWriter:
    """Makes events durable in Postgres, and sends their messages.

    Args:
        database: Where they become durable.
        outbox: Sends their messages; None keeps the rows only.
        availability: Whether Postgres answers.
        clock: Monotonic seconds.
    """

    def __init__(self, database: Database, outbox: Outbox | None, availability: Availability, clock: Clock) -> None:
        self._database = database
        self._outbox = outbox
        self._availability = availability
        self._clock = clock
        self._running: set[asyncio.Task[Any]] = set()

    async def write(self, work: "Work[T]", *, timeout_s: float) -> T:
        """Return the result of the work once it is durable; NotDurableError when that takes too long."""
        if self._availability.away:
            raise NotDurableError("events cannot be made durable now")
        task = asyncio.create_task(self._commit(work, self._clock()))
        # Nobody may wait for its outcome any more when it is late or the caller has cancelled the call.
        self._running.add(task)
        task.add_done_callback(self._ended)
        # Not cancelled when late: psycopg would wait for Postgres to confirm that.
        done, _ = await asyncio.wait([task], timeout=max(0.0, timeout_s))
        if not done:
            raise NotDurableError("the event could not be made durable in time")
        try:
            return task.result()
        except DatabaseUnavailableError:
            self._availability.lost()
            raise NotDurableError("events cannot be made durable now") from None

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # asyncio logs one that nobody has taken

    async def _commit(self, work: "Work[T]", accepted_at: float) -> T:
        try:
            return await self._commit_once(work, accepted_at)
        except ConnectionBrokenError:
            await self._database.heal()
            return await self._commit_once(work, accepted_at)

    async def _commit_once(self, work: "Work[T]", accepted_at: float) -> T:
        claimed: set[UUID] = set()
        waiting: dict[UUID, list[UUID]] = {}
        outbox = self._outbox
        try:
            async with self._database.connection() as connection:
                result, messages = await work(connection)
                if outbox is not None:
                    claimed = outbox.claim(message.event_id for message in messages)
                    waiting = {message.event_id: await _queue(connection, message) for message in messages}
        except BaseException:
            if outbox is not None:
                outbox.release(claimed)
            raise
        if outbox is not None:
            outbox.dispatch([Accepted(message, accepted_at) for message in messages], waiting)
        return result


async def _queue(connection: Connection, message: Message) -> list[UUID]:
    """Add a message to the outbox; return those of its key that were there before."""
    cursor = await connection.execute(
        _QUEUE,
        [
            message.event_id,
            message.topic,
            message.key,
            message.kind,
            message.value,
            [*message.headers.keys()],
            [*message.headers.values()],
            message.key,
        ],
    )
    row = await cursor.fetchone()
    return list(row[0]) if row else []
