"""Makes a batch of interactions durable in Postgres, with the outbox rows of its messages."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from uuid import UUID

from bridge.acknowledgement import Entry
from bridge.database import ConnectionBrokenError, Database
from bridge.interaction import Interaction
from bridge.interaction_store import record
from bridge.message import Message, interaction_message
from bridge.outbox import Accepted, Outbox

MOST_OPEN: Final = 10_000

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
        self._open: OrderedDict[UUID, None] = OrderedDict()
        """Events that were under way when a connection broke: whether they are recorded is not known."""

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
        self._look_back(self._outbox, messages, waiting)
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
            for interaction in interactions:
                self._open[interaction.event_id] = None
            while len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
            await self._database.heal()
            return await self._insert_once(interactions, messages)

    def _look_back(self, outbox: Outbox, messages: Iterable[Message], waiting: Waiting) -> None:
        """Take note of rows that an earlier attempt has left in the outbox, of which nobody was told.

        Without that, a later message of their key would overtake them when Postgres goes away again.
        """
        if not self._open:
            return
        for message in messages:
            if message.event_id in self._open:
                del self._open[message.event_id]
                if message.event_id not in waiting:
                    outbox.leave(message)

    async def _insert_once(self, interactions: Sequence[Interaction], messages: Sequence[Message | None]) -> Waiting:
        async with self._database.statements() as connection:
            return await record(connection, interactions, messages)
