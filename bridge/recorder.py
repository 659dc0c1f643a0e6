"""Takes interactions in: durable first, then acknowledged, then published."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from uuid import UUID

import psycopg

from bridge.database import ConnectionBrokenError, Database, DatabaseUnavailableError
from bridge.deadline import Clock
from bridge.interaction import Interaction
from bridge.interaction_store import record
from bridge.message import Message, interaction_message
from bridge.outbox import Outbox

BATCH: Final = 500
MOST_WAITING: Final = 10_000
"""Interactions that may wait for a commit; beyond, callers are turned away at once."""


InteractionListener: TypeAlias = Callable[[Interaction], None]


class RecorderUnavailableError(Exception):
    """The interaction could not be made durable in time; it may be sent again with the same event id."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The event is durable; `duplicate` when it was so before."""

    event_id: UUID
    duplicate: bool


@dataclass(frozen=True, slots=True)
class _Entry:
    interaction: Interaction
    accepted_at: float
    done: "asyncio.Future[Acknowledgement]"


class Recorder:
    """Records interactions; those that arrive while a commit is under way share the next one.

    Args:
        database: Where they become durable.
        outbox: Sends their messages; None keeps them in Postgres only.
        clock: Monotonic seconds.
        listeners: Told of each interaction that is new and durable; must return at once and never raise.
    """

    def __init__(
        self,
        database: Database,
        outbox: Outbox | None,
        clock: Clock,
        listeners: Sequence[InteractionListener] = (),
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._clock = clock
        self._listeners = listeners
        self._waiting: deque[_Entry] = deque()
        self._wake = asyncio.Event()

    async def record(self, interaction: Interaction, *, timeout_s: float) -> Acknowledgement:
        """Return once the interaction is durable; RecorderUnavailableError when that takes longer than allowed."""
        if len(self._waiting) >= MOST_WAITING:
            raise RecorderUnavailableError("too many interactions wait to be recorded")
        done: asyncio.Future[Acknowledgement] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Entry(interaction, self._clock(), done))
        self._wake.set()
        try:
            async with asyncio.timeout(timeout_s):
                return await done
        except TimeoutError:
            raise RecorderUnavailableError("the interaction could not be made durable in time") from None

    async def write(self) -> None:
        """Commit what arrives, batch by batch; forever. Several of these may run at once."""
        while True:
            await self._wake.wait()
            batch = self._take()
            if batch:
                await self._settle(batch)

    def _take(self) -> list[_Entry]:
        """Return the oldest entries that somebody still waits for."""
        batch: list[_Entry] = []
        while self._waiting and len(batch) < BATCH:
            entry = self._waiting.popleft()
            if not entry.done.done():
                batch.append(entry)
        if not self._waiting:
            self._wake.clear()
        return batch

    async def _settle(self, batch: Sequence[_Entry]) -> None:
        try:
            fresh = await self._commit(batch)
        except DatabaseUnavailableError:
            _fail(batch, RecorderUnavailableError("interactions cannot be made durable now"))
        except psycopg.Error as error:
            await self._settle_apart(batch, error)
        except Exception as error:  # noqa: BLE001  # handed to the callers, whose server logs it
            _fail(batch, error)
        else:
            for interaction in _acknowledge(batch, fresh):
                for listener in self._listeners:
                    listener(interaction)

    async def _settle_apart(self, batch: Sequence[_Entry], error: psycopg.Error) -> None:
        """Find the entry that Postgres refuses, so that the others do not fail with it."""
        if len(batch) == 1:
            _fail(batch, error)
            return
        for entry in batch:
            await self._settle([entry])

    async def _commit(self, batch: Sequence[_Entry]) -> set[UUID]:
        """Record the batch and send its messages; return the ids of the events that were new."""
        distinct: dict[UUID, Interaction] = {}
        for entry in batch:
            distinct.setdefault(entry.interaction.event_id, entry.interaction)
        interactions = [*distinct.values()]
        if self._outbox is None:
            return set(await self._insert(interactions, [None] * len(interactions)))
        messages = [interaction_message(interaction) for interaction in interactions]
        claimed = self._outbox.claim(distinct)
        waiting: dict[UUID, list[UUID]] = {}
        try:
            waiting = await self._insert(interactions, messages)
        finally:
            self._outbox.release(claimed - waiting.keys())
        fresh = [message for message in messages if message.event_id in waiting]
        self._outbox.dispatch(fresh, waiting, batch[0].accepted_at)
        return set(waiting)

    async def _insert(
        self, interactions: Sequence[Interaction], messages: Sequence[Message | None]
    ) -> dict[UUID, list[UUID]]:
        """Record in one transaction, once more when the connection turns out to be broken."""
        try:
            return await self._insert_once(interactions, messages)
        except ConnectionBrokenError:
            await self._database.heal()
            return await self._insert_once(interactions, messages)

    async def _insert_once(
        self, interactions: Sequence[Interaction], messages: Sequence[Message | None]
    ) -> dict[UUID, list[UUID]]:
        async with self._database.connection() as connection:
            return await record(connection, interactions, messages)


def _acknowledge(batch: Sequence[_Entry], fresh: set[UUID]) -> list[Interaction]:
    """Tell each caller, and return what was new; of several events with one id in a batch that is the first."""
    new = []
    for entry in batch:
        event_id = entry.interaction.event_id
        duplicate = event_id not in fresh
        fresh.discard(event_id)
        if not entry.done.done():
            entry.done.set_result(Acknowledgement(event_id, duplicate))
        if not duplicate:
            new.append(entry.interaction)
    return new


def _fail(batch: Sequence[_Entry], error: Exception) -> None:
    for entry in batch:
        if not entry.done.done():
            entry.done.set_exception(error)
