"""Makes a batch of interactions durable in Postgres, with the outbox rows of its messages."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from bridge.ingest.acknowledgement import PendingInteraction
from bridge.ingest.event_recording import Event, Recording, record_all
from bridge.kafka.message import interaction_message
from bridge.outbox.outbox import Accepted, Outbox
from bridge.postgres.pool import Connection, ConnectionBrokenError, Database

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Commit:
    """What a commit brought: the messages of new events in their order, and what was recorded."""

    fresh: list[Accepted]
    recording: Recording


class Committer:
    """Commits batches.

    Args:
        database: Where they become durable.
        outbox: Told which rows are this process's own; None keeps the interactions only, without messages.
    """

    def __init__(self, database: Database, outbox: Outbox | None) -> None:
        self._database = database
        self._outbox = outbox

    async def commit(self, batch: Iterable[PendingInteraction]) -> Commit:
        """Record the batch; its messages are kept from the relay."""
        distinct: dict[bytes, PendingInteraction] = {}
        for entry in batch:
            distinct.setdefault(entry.identity, entry)
        if self._outbox is None:
            events = [Event(identity, entry.content, entry.interaction) for identity, entry in distinct.items()]
            return Commit([], await record_all(self._run, events))
        events = [
            Event(identity, entry.content, entry.interaction, interaction_message(entry.interaction))
            for identity, entry in distinct.items()
        ]
        recording = await self._record(self._outbox, events)
        fresh = [
            Accepted(event.message, distinct[event.identity].accepted_at)
            for event in recording.fresh
            if event.message is not None
        ]
        return Commit(fresh, recording)

    async def _record(self, outbox: Outbox, events: Sequence[Event]) -> Recording:
        claimed: set[UUID] = set()
        fresh: set[UUID] = set()

        def claim(about: Sequence[Event]) -> None:
            claimed.update(outbox.claim([event.interaction.event_id for event in about]))

        try:
            recording = await record_all(self._run, events, claim)
            fresh = set(recording.waiting)
        finally:
            outbox.release(claimed - fresh)
        # What was known may be in the outbox still, left there by an earlier attempt or by another process: later
        # messages of its key would overtake it, were Postgres to go away now.
        for event in recording.known:
            if event.message is not None and event.message.event_id in claimed:
                outbox.leave(event.message)
        return recording

    async def _run(self, work: Callable[[Connection], Awaitable[T]], /) -> T:
        """Run statements, each a transaction of its own, once more when the connection turns out to be broken."""
        try:
            return await self._run_once(work)
        except ConnectionBrokenError:
            await self._database.heal()
            return await self._run_once(work)

    async def _run_once(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._database.statements() as connection:
            return await work(connection)
