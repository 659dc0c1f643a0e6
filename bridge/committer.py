"""Makes a batch of interactions durable in Postgres, with the outbox rows of its messages."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from bridge.acknowledgement import Entry
from bridge.database import ConnectionBrokenError, Database
from bridge.interaction import Interaction
from bridge.interaction_store import record
from bridge.message import Message, interaction_message
from bridge.outbox import Accepted, Outbox

Waiting: TypeAlias = dict[UUID, list[UUID]]


@dataclass(frozen=True, slots=True)
class Commit:
    """What a commit brought: the new events in their order, and for each what its key had in the outbox before."""

    fresh: list[Accepted]
    waiting: Waiting


class Committer:
    """Commits batches.

    Args:
        database: Where they become durable.
        outbox: Told which rows are this process's own; None keeps the interactions only, without messages.
    """

    def __init__(self, database: Database, outbox: Outbox | None) -> None:
        self._database = database
        self._outbox = outbox

    async def commit(self, batch: Iterable[Entry]) -> Commit:
        """Record the batch; its messages are kept from the relay."""
        distinct: dict[UUID, Entry] = {}
        for entry in batch:
            distinct.setdefault(entry.interaction.event_id, entry)
        interactions = [entry.interaction for entry in distinct.values()]
        if self._outbox is None:
            return Commit([], await self._insert(interactions, [None] * len(interactions)))
        messages = [interaction_message(interaction) for interaction in interactions]
        claimed = self._outbox.claim(distinct)
        waiting: Waiting = {}
        try:
            waiting = await self._insert(interactions, messages)
        finally:
            self._outbox.release(claimed - waiting.keys())
        # What was known may be in the outbox still, left there by an earlier attempt or by another process: later
        # messages of its key would overtake it, were Postgres to go away now.
        for message in messages if len(waiting) < len(messages) else ():
            if message.event_id in claimed and message.event_id not in waiting:
                self._outbox.leave(message)
        fresh = [
            Accepted(message, entry.accepted_at)
            for message, entry in zip(messages, distinct.values(), strict=True)
            if message.event_id in waiting
        ]
        return Commit(fresh, waiting)

    async def _insert(self, interactions: Sequence[Interaction], messages: Sequence[Message | None]) -> Waiting:
        """Record in one transaction, once more when the connection turns out to be broken."""
        try:
            return await self._insert_once(interactions, messages)
        except ConnectionBrokenError:
            await self._database.heal()
            return await self._insert_once(interactions, messages)

    async def _insert_once(self, interactions: Sequence[Interaction], messages: Sequence[Message | None]) -> Waiting:
        async with self._database.statements() as connection:
            return await record(connection, interactions, messages)
