"""Takes interactions in: durable first, then acknowledged, then published.

Durable is in Postgres; while that is away, in Kafka, from where a `Refill` brings them to Postgres later.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias
from uuid import UUID

import psycopg

from bridge.availability import Availability
from bridge.database import ConnectionBrokenError, Database, DatabaseUnavailableError
from bridge.deadline import Clock
from bridge.interaction import Interaction, InteractionListener
from bridge.interaction_store import record
from bridge.message import Message, interaction_message
from bridge.outbox import Outbox

WRITERS: Final = 2
"""Commits under way at once."""
BATCH: Final = 500
MOST_WAITING: Final = 10_000
"""Interactions that may wait for a commit; beyond, callers are turned away at once."""
MOST_RECENT: Final = 50_000
"""Acknowledged events that are recognised without Postgres."""
COMMIT_TIMEOUT_S: Final = 1.0
"""A commit that takes longer leaves its events to Kafka."""
ORDER_WAIT_S: Final = 15.0
ORDER_LOOK_S: Final = 0.05
AWAY: Final = "interactions cannot be made durable now"


class RecorderUnavailableError(Exception):
    """The interaction could not be made durable in time; it may be sent again with the same event id."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The event is durable; `duplicate` when it was so before, as far as can be known while Postgres is away."""

    event_id: UUID
    duplicate: bool


Outcome: TypeAlias = asyncio.Future[Acknowledgement]
"""An acknowledgement, or RecorderUnavailableError, or a defect."""


@dataclass(frozen=True, slots=True)
class _Commit:
    """What a commit brought: the new events in their order, and for each what its key had in the outbox before."""

    fresh: list[Message]
    waiting: dict[UUID, list[UUID]]


@dataclass(frozen=True, slots=True)
class _Entry:
    interaction: Interaction
    accepted_at: float
    done: Outcome


class _Handover:
    """Events that Kafka gets because a commit took too long; the commit may yet succeed, and leave rows in the outbox.

    A row whose message Kafka has by then, or gets, is deleted; any other is left to the relay.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._durable: dict[UUID, bool] = {}
        self._committed: dict[UUID, Message] = {}

    def sent(self, event_id: UUID, *, durable: bool) -> None:
        """Take note of what became of a message."""
        self._durable[event_id] = durable
        if event_id in self._committed:
            self._settle(self._committed[event_id], durable=durable)

    def committed(self, messages: Iterable[Message]) -> None:
        """Take note of the rows of the late commit, which the relay has been kept from."""
        for message in messages:
            self._committed[message.event_id] = message
            durable = self._durable.get(message.event_id)
            if durable is not None:
                self._settle(message, durable=durable)

    def _settle(self, message: Message, *, durable: bool) -> None:
        if durable:
            self._outbox.sent([message.event_id])
        else:
            self._outbox.leave(message)


class _Lane:
    """Interactions that wait for one writer: those of a viewer all take the same lane, so they keep their order."""

    def __init__(self) -> None:
        self.waiting: deque[_Entry] = deque()
        self.wake = asyncio.Event()

    def give_back(self, batch: Sequence[_Entry]) -> None:
        """Put entries back to the front."""
        self.waiting.extendleft(reversed(batch))
        self.wake.set()

    def take(self) -> list[_Entry]:
        """Return the oldest entries that somebody still waits for."""
        batch: list[_Entry] = []
        while self.waiting and len(batch) < BATCH:
            entry = self.waiting.popleft()
            if not entry.done.done():
                batch.append(entry)
        if not self.waiting:
            self.wake.clear()
        return batch


class Recorder:
    """Records interactions; those that arrive while a commit is under way share the next one.

    Args:
        database: Where they become durable.
        outbox: Sends their messages; None keeps them in Postgres only.
        clock: Monotonic seconds.
        availability: Whether Postgres answers; `watch` must run.
        commit_timeout_s: Seconds until a commit's events are left to Kafka.
        order_wait_s: Seconds for which nothing is taken in, after Postgres was lost, rather than risk the order.
        listeners: Told of each interaction that is durable and new.
    """

    def __init__(
        self,
        database: Database,
        outbox: Outbox | None,
        clock: Clock,
        availability: Availability,
        *,
        commit_timeout_s: float = COMMIT_TIMEOUT_S,
        order_wait_s: float = ORDER_WAIT_S,
        listeners: Sequence[InteractionListener] = (),
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._clock = clock
        self._availability = availability
        self._commit_timeout_s = commit_timeout_s
        self._order_wait_s = order_wait_s
        self._listeners = listeners
        self._lanes = tuple(_Lane() for _ in range(WRITERS))
        self._recent: OrderedDict[UUID, None] = OrderedDict()
        self._late: set[asyncio.Task[_Commit]] = set()

    async def record(self, interaction: Interaction, *, timeout_s: float) -> Acknowledgement:
        """Return once the interaction is durable; RecorderUnavailableError when that takes longer than allowed."""
        done = self.submit(interaction)
        try:
            async with asyncio.timeout(timeout_s):
                return await done
        except TimeoutError:
            raise RecorderUnavailableError("the interaction could not be made durable in time") from None

    def submit(self, interaction: Interaction) -> Outcome:
        """Return the future outcome; cancelling it gives the interaction up where its turn has not come."""
        done: Outcome = asyncio.get_running_loop().create_future()
        if interaction.event_id in self._recent:
            done.set_result(Acknowledgement(interaction.event_id, duplicate=True))
            return done
        lane = self._lanes[hash(interaction.user_id) % WRITERS]
        if len(lane.waiting) >= MOST_WAITING // WRITERS:
            done.set_exception(RecorderUnavailableError("too many interactions wait to be recorded"))
        else:
            if self._listeners:
                done.add_done_callback(partial(_tell, interaction, self._listeners))
            lane.waiting.append(_Entry(interaction, self._clock(), done))
            lane.wake.set()
        return done

    @property
    def waiting(self) -> int:
        """How many interactions have not had their turn."""
        return sum(len(lane.waiting) for lane in self._lanes)

    async def write(self, number: int) -> None:
        """Commit what arrives in a lane, batch by batch; forever.

        Args:
            number: The lane, from 0; one of these must run for each of the `WRITERS`.
        """
        lane = self._lanes[number]
        while True:
            await lane.wake.wait()
            batch = lane.take()
            if not batch:
                continue
            if self._outbox is None:
                await self._settle(batch)
            elif self._availability.away:
                await self._pass_by(self._outbox, lane, batch, _Handover(self._outbox))
                await asyncio.sleep(0)
            else:
                await self._settle_or_give_up(self._outbox, lane, batch)

    async def _settle(self, batch: Sequence[_Entry]) -> None:
        try:
            commit = await self._commit(batch)
        except DatabaseUnavailableError:
            _fail(batch, RecorderUnavailableError(AWAY))
        except psycopg.Error as error:
            await self._settle_apart(batch, error)
        except Exception as error:  # noqa: BLE001  # handed to the callers, whose server logs it
            _fail(batch, error)
        else:
            self._finish(batch, commit)

    async def _settle_apart(self, batch: Sequence[_Entry], error: psycopg.Error) -> None:
        """Find the entry that Postgres refuses, so that the others do not fail with it."""
        if len(batch) == 1:
            _fail(batch, error)
            return
        for entry in batch:
            await self._settle([entry])

    async def _settle_or_give_up(self, outbox: Outbox, lane: _Lane, batch: Sequence[_Entry]) -> None:
        """Commit the batch, or leave it to Kafka when Postgres is away or takes too long."""
        commit = asyncio.create_task(self._commit(batch))
        # Not cancelled when late: psycopg would wait for Postgres to confirm that, and the commit may yet succeed.
        done, _ = await asyncio.wait([commit], timeout=self._commit_timeout_s)
        if not done:
            self._late.add(commit)
            self._availability.lost()
            handover = _Handover(outbox)
            commit.add_done_callback(partial(self._settled_late, handover))
            await self._pass_by(outbox, lane, batch, handover)
            return
        error = commit.exception()
        if isinstance(error, DatabaseUnavailableError):
            self._availability.lost()
            await self._pass_by(outbox, lane, batch, _Handover(outbox))
        elif isinstance(error, psycopg.Error):
            await self._settle_apart(batch, error)
        elif isinstance(error, Exception):
            _fail(batch, error)
        else:
            self._finish(batch, commit.result())

    async def _pass_by(self, outbox: Outbox, lane: _Lane, batch: Sequence[_Entry], handover: _Handover) -> None:
        """Leave the batch to Kafka, or try Postgres again when that is back before order allows it."""
        if await self._may_pass_by(outbox):
            self._settle_by_kafka(outbox, batch, handover)
            return
        for entry in batch:
            handover.sent(entry.interaction.event_id, durable=False)
        lane.give_back(batch)

    async def _may_pass_by(self, outbox: Outbox) -> bool:
        """Wait until later messages cannot overtake what is left in the outbox; return whether Postgres is still away.

        After a start that is not known until the outbox has been looked at. As Postgres may be away for long, order is
        waited for no longer than `order_wait_s`.
        """
        while self._availability.away and not outbox.known and self._availability.away_s < self._order_wait_s:  # noqa: ASYNC110
            await asyncio.sleep(ORDER_LOOK_S)  # three things may end it, one of them the time
        return self._availability.away

    def _finish(self, batch: Sequence[_Entry], commit: _Commit) -> None:
        if self._outbox is not None:
            self._outbox.dispatch(commit.fresh, commit.waiting, batch[0].accepted_at)
        self._acknowledge(batch, set(commit.waiting))

    def _settled_late(self, handover: _Handover, commit: "asyncio.Task[_Commit]") -> None:
        self._late.discard(commit)
        if not commit.cancelled() and commit.exception() is None:
            handover.committed(commit.result().fresh)

    def _settle_by_kafka(self, outbox: Outbox, batch: Sequence[_Entry], handover: _Handover) -> None:
        """Send the batch to Kafka, and acknowledge each entry when Kafka has it."""
        together: dict[UUID, list[_Entry]] = {}
        for entry in batch:
            together.setdefault(entry.interaction.event_id, []).append(entry)
        for event_id, entries in together.items():
            if event_id in self._recent:
                handover.sent(event_id, durable=True)
                self._acknowledge(entries, set())
                continue
            message = interaction_message(entries[0].interaction, unrecorded=True)
            outbox.send_unrecorded(message, entries[0].accepted_at, partial(self._sent, entries, handover))

    def _sent(self, entries: Sequence[_Entry], handover: _Handover, durable: bool) -> None:  # noqa: FBT001  # a callback
        event_id = entries[0].interaction.event_id
        handover.sent(event_id, durable=durable)
        if durable:
            self._acknowledge(entries, {event_id} - self._recent.keys())
        else:
            _fail(entries, RecorderUnavailableError(AWAY))

    async def _commit(self, batch: Sequence[_Entry]) -> _Commit:
        """Record the batch; its messages are kept from the relay."""
        distinct: dict[UUID, Interaction] = {}
        for entry in batch:
            distinct.setdefault(entry.interaction.event_id, entry.interaction)
        interactions = [*distinct.values()]
        if self._outbox is None:
            return _Commit([], await self._insert(interactions, [None] * len(interactions)))
        messages = [interaction_message(interaction) for interaction in interactions]
        claimed = self._outbox.claim(distinct)
        waiting: dict[UUID, list[UUID]] = {}
        try:
            waiting = await self._insert(interactions, messages)
        finally:
            self._outbox.release(claimed - waiting.keys())
        return _Commit([message for message in messages if message.event_id in waiting], waiting)

    async def _insert(
        self, interactions: Sequence[Interaction], messages: Sequence[Message | None]
    ) -> dict[UUID, list[UUID]]:
        """Record in one transaction, once more when the connection turns out to be broken."""
        try:
            return await self._insert_once(interactions, messages)
        except ConnectionBrokenError:
            if self._outbox is not None:
                self._outbox.doubt()
            await self._database.heal()
            return await self._insert_once(interactions, messages)

    async def _insert_once(
        self, interactions: Sequence[Interaction], messages: Sequence[Message | None]
    ) -> dict[UUID, list[UUID]]:
        async with self._database.connection() as connection:
            return await record(connection, interactions, messages)

    def _acknowledge(self, batch: Sequence[_Entry], fresh: set[UUID]) -> None:
        """Tell each caller; of several events with one new id in a batch the first is the new one."""
        for entry in batch:
            event_id = entry.interaction.event_id
            duplicate = event_id not in fresh
            fresh.discard(event_id)
            self._recent[event_id] = None
            if not entry.done.done():
                entry.done.set_result(Acknowledgement(event_id, duplicate))
        while len(self._recent) > MOST_RECENT:
            self._recent.popitem(last=False)


def _tell(interaction: Interaction, listeners: Sequence[InteractionListener], done: Outcome) -> None:
    if not done.cancelled() and done.exception() is None and not done.result().duplicate:
        for listener in listeners:
            listener(interaction)


def _fail(batch: Sequence[_Entry], error: Exception) -> None:
    for entry in batch:
        if not entry.done.done():
            entry.done.set_exception(error)
