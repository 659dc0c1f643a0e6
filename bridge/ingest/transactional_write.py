"""Writes events and the outbox rows of their messages in one transaction, and sends the messages after its commit.

Every event goes this way: feedback and playback one by one, interactions in batches. While a commit is under way its
rows are held from the relay; those that it made are sent, and all others are left to the relay.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

import structlog

from bridge.domain.deadline import Clock
from bridge.ingest.acknowledgement import NotDurableError
from bridge.ingest.interactions_table import Event, Recording, record_all
from bridge.kafka.message import Message
from bridge.outbox.late_commits import LateCommit
from bridge.outbox.outbox import Accepted, Outbox
from bridge.postgres.availability import Availability
from bridge.postgres.pool import Connection, Database, DatabaseUnavailableError

T = TypeVar("T")
Work = Callable[[Connection], Awaitable[tuple[T, Sequence[Message]]]]
"""Writes rows; returns its result, and the messages that tell of them."""

COMMIT_TIMEOUT_S: Final = 1.0
"""A commit that takes longer leaves its events to Kafka."""
ORDER_WAIT_S: Final = 15.0
ORDER_LOOK_S: Final = 0.05
AWAY: Final = "events cannot be made durable now"
LATE: Final = "the event could not be made durable in time"

_QUEUE: Final = """
WITH queued AS (
    INSERT INTO interactions_outbox (id, aggregatetype, aggregateid, type, payload, headers)
    VALUES (%s, %s, %s, %s, %s::json, (SELECT json_object(%s::text[], %s::text[])))
)
SELECT ARRAY(SELECT id FROM interactions_outbox WHERE aggregateid = %s)
"""

logger = structlog.get_logger(__name__)


class NotWrittenError(NotDurableError):
    """Postgres is away or a commit is late; `late_commit` must hear of the messages that go to Kafka instead."""

    def __init__(self, problem: str, late_commit: LateCommit | None) -> None:
        super().__init__(problem)
        self.late_commit = late_commit


@dataclass(slots=True)
class _Commit:
    """A commit under way.

    Attributes:
        outbox: Holds its rows from the relay; None where there is no Kafka.
        held: Rows that it holds.
        fresh: Messages of the rows that it made, in their order.
        waiting: For each of these, what its key had in the outbox before.
        repeats: Messages of events that were there before.
        late_commit: Matches its rows with its messages, which went to Kafka because the commit was late.
    """

    outbox: Outbox | None
    held: set[UUID] = field(default_factory=set)
    fresh: list[Accepted] = field(default_factory=list)
    waiting: dict[UUID, list[UUID]] = field(default_factory=dict)
    repeats: list[Message] = field(default_factory=list)
    late_commit: LateCommit | None = None

    def hold(self, event_ids: Iterable[UUID]) -> None:
        """Hold the rows of an insert back from the relay."""
        if self.outbox is not None:
            self.held |= self.outbox.begin_commit(event_ids)

    def release(self) -> None:
        """Release the rows that were not inserted."""
        if self.outbox is not None:
            self.outbox.end_commit_without(self.held - self.waiting.keys())

    def publish(self) -> None:
        """Send the inserted messages, unless they have gone to Kafka already."""
        if self.outbox is None:
            return
        # What was known may be in the outbox still, left there by an earlier attempt or by another process: later
        # messages of its key would overtake it, were Postgres to go away now.
        for message in self.repeats:
            self.outbox.on_repeat(message)
        if self.late_commit is None:
            self.outbox.send_committed(self.fresh, self.waiting)
        else:
            self.late_commit.on_commit(accepted.message for accepted in self.fresh)


class TransactionalWriter:
    """Writes events durably to Postgres, and sends their messages.

    Args:
        database: Where they become durable.
        outbox: Sends their messages; None keeps the rows only.
        availability: Whether Postgres answers; its `watch` must run.
        clock: Monotonic seconds.
        order_wait_s: Seconds for which nothing passes Postgres by, after that was lost, rather than risk the order.
    """

    def __init__(
        self,
        database: Database,
        outbox: Outbox | None,
        availability: Availability,
        clock: Clock,
        *,
        order_wait_s: float = ORDER_WAIT_S,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._availability = availability
        self._clock = clock
        self._order_wait_s = order_wait_s
        self._running: set[asyncio.Task[Any]] = set()
        self._impatient = False

    @property
    def has_kafka(self) -> bool:
        """Return whether events have messages."""
        return self._outbox is not None

    async def write(self, work: "Work[T]", *, timeout_s: float, hand_over: bool = False) -> T:
        """Do the work in a transaction; return its result once durable; NotWrittenError when that takes too long.

        Args:
            work: Writes the rows of one event, in one transaction.
            timeout_s: Seconds that this may take.
            hand_over: Whether `late_commit` of the error settles the messages of a late commit; else they are sent
                when it ends.
        """
        rows = partial(self._write_event, work, self._clock())
        return await self._attempt(rows, timeout_s=max(0.0, timeout_s), hand_over=hand_over)

    async def write_batch(self, events: Callable[[], Sequence[Event]]) -> Recording:
        """Record interactions; NotWrittenError when Postgres is away, or is slow while Kafka may take them.

        Args:
            events: Returns them, with different identities, in the order in which they were accepted.
        """
        timeout_s = COMMIT_TIMEOUT_S if self.has_kafka else None
        return await self._attempt(partial(self._write_events, events), timeout_s=timeout_s, hand_over=True)

    async def may_pass_by(self, *, wait_s: float = math.inf) -> bool:
        """Return whether events may go to Kafka without Postgres: the one rule for all kinds of events.

        Postgres must be away, and what is left in the outbox known, so that later messages can be sent after it. After
        a start it is not known until the outbox has been scanned. As Postgres may be away for long, that is waited for
        no longer than `order_wait_s`.

        Args:
            wait_s: Seconds in which it may become so.
        """
        outbox, end = self._outbox, self._clock() + wait_s
        if outbox is None:
            return False
        while self._availability.away and not outbox.scanned and self._availability.away_s < self._order_wait_s:
            if self._clock() >= end:
                return False
            await asyncio.sleep(ORDER_LOOK_S)  # three things may end it, one of them the time
        if self._availability.away and not outbox.scanned and not self._impatient:
            self._impatient = True
            logger.warning("order.not_waited_for", consequence="events may come before earlier ones of their user")
        return self._availability.away

    def pass_by(self, message: Message, accepted_at: float, done: Callable[[bool], None]) -> None:
        """Send the message of an event that is not in Postgres to Kafka, once `may_pass_by` allows it.

        Args:
            message: Marked as unrecorded.
            accepted_at: When its event was accepted, on the clock.
            done: Told whether Kafka has it.
        """
        if self._outbox is None:
            done(False)  # noqa: FBT003  # the callback's only argument
        else:
            self._outbox.send_unrecorded(message, accepted_at, done)

    async def _attempt(self, rows: Callable[[_Commit], Awaitable[T]], *, timeout_s: float | None, hand_over: bool) -> T:
        """Commit within a time; None tries without a time limit, also while Postgres counts as away."""
        if timeout_s is not None and self._availability.away:
            raise self._not_written(AWAY)
        commit = _Commit(self._outbox)
        task = asyncio.create_task(self._commit(rows, commit))
        # Nobody may wait for its outcome any more when it is late or the caller has cancelled the call.
        self._running.add(task)
        task.add_done_callback(self._ended)
        # Not cancelled when late: psycopg would wait for Postgres to confirm that, and the commit may yet succeed.
        done, _ = await asyncio.wait([task], timeout=timeout_s)
        if not done:
            late = self._not_written(LATE)
            if hand_over:
                commit.late_commit = late.late_commit
            if hand_over and timeout_s is not None and timeout_s >= COMMIT_TIMEOUT_S:
                self._availability.lost()
            raise late
        try:
            return task.result()
        except DatabaseUnavailableError:
            if timeout_s is not None:
                self._availability.lost()
            raise self._not_written(AWAY) from None

    def _not_written(self, problem: str) -> NotWrittenError:
        return NotWrittenError(problem, None if self._outbox is None else LateCommit(self._outbox))

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # asyncio logs one that nobody has taken

    async def _commit(self, rows: Callable[[_Commit], Awaitable[T]], commit: _Commit) -> T:
        try:
            result = await rows(commit)
        finally:
            commit.release()
        commit.publish()
        return result

    async def _write_event(self, work: "Work[T]", accepted_at: float, commit: _Commit) -> T:
        async def run() -> tuple[T, Sequence[Message], dict[UUID, list[UUID]]]:
            async with self._database.connection() as connection:
                result, messages = await work(connection)
                if self._outbox is None:
                    return result, messages, {}
                commit.hold(message.event_id for message in messages)
                return result, messages, {message.event_id: await _queue(connection, message) for message in messages}

        result, messages, commit.waiting = await self._database.retried(run)
        commit.fresh = [Accepted(message, accepted_at) for message in messages]
        return result

    async def _write_events(self, make: Callable[[], Sequence[Event]], commit: _Commit) -> Recording:
        recording = await record_all(self._database.run, make(), commit.hold)
        commit.waiting = recording.waiting
        commit.fresh = [Accepted(event.message, event.accepted_at) for event in recording.fresh if event.message]
        commit.repeats = [
            event.message for event in recording.known if event.message and event.message.event_id in commit.held
        ]
        return recording


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
