"""Records interactions: makes each durable, then acknowledges it, then publishes it.

Durable is in Postgres; while that is away, in Kafka, from where a `Backfill` brings them to Postgres later.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import psycopg

from bridge.domain.deadline import Clock
from bridge.domain.event_identity import identity_of
from bridge.domain.interaction import Interaction, InteractionListener
from bridge.ingest.acknowledgement import NotDurableError, Outcome
from bridge.ingest.commit_queue import CommitQueue, PendingInteraction, TimeoutWheel, fail
from bridge.ingest.interactions_table import Event
from bridge.ingest.transactional_write import NotWrittenError, TransactionalWriter
from bridge.kafka.message import interaction_message
from bridge.outbox.late_commits import LateCommit

AWAY: Final = "interactions cannot be made durable now"
MAX_IDS: Final = 50_000


class RecentEvents:
    """Events that were acknowledged a moment ago, so that repeats are recognised without Postgres; at most `most`."""

    def __init__(self, most: int = MAX_IDS) -> None:
        self._most = most
        self._contents: dict[bytes, int | None] = {}

    def __contains__(self, identity: bytes) -> bool:
        return identity in self._contents

    def __len__(self) -> int:
        return len(self._contents)

    def content(self, identity: bytes) -> int | None:
        """Return the content of a remembered event; None if the event is unknown."""
        return self._contents[identity]

    def add(self, identity: bytes, content: int | None) -> None:
        """Remember an event."""
        if identity in self._contents:
            return
        self._contents[identity] = content
        if len(self._contents) > self._most:
            del self._contents[next(iter(self._contents))]


class Recorder:
    """Records interactions; those that arrive while a commit is under way share the next one.

    Args:
        writer: Makes them durable.
        clock: Monotonic seconds.
        listeners: Called with each interaction that is durable and new.
    """

    def __init__(
        self, writer: TransactionalWriter, clock: Clock, *, listeners: Sequence[InteractionListener] = ()
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._listeners = listeners
        self._queue = CommitQueue(clock)
        self._expiry = TimeoutWheel()
        self._recent = RecentEvents()

    def submit(self, interaction: Interaction, *, timeout_s: float) -> Outcome:
        """Queue an interaction and return its future outcome; cancelling that before its turn withdraws it.

        Args:
            interaction: What was done.
            timeout_s: Seconds after which the outcome is NotDurableError.
        """
        done: Outcome = asyncio.get_running_loop().create_future()
        identity = identity_of(interaction.event_id, interaction.user_id)
        entry = PendingInteraction(interaction, identity, interaction.content(), self._clock(), done)
        if identity in self._recent:
            entry.acknowledge(self._recent.content(identity), duplicate=True)
        elif self._queue.full:
            done.set_exception(NotDurableError("too many interactions wait to be recorded"))
        else:
            self._expiry.watch(done, timeout_s)
            self._queue.add(entry)
        return done

    @property
    def waiting(self) -> int:
        """Return the number of interactions whose turn has not come."""
        return len(self._queue)

    async def write(self) -> None:
        """Commit arriving interactions, batch by batch; forever."""
        while True:
            await self._settle(await self._queue.take())

    async def _settle(self, batch: Sequence[PendingInteraction]) -> None:
        try:
            recording = await self._writer.write_batch(partial(self._events, batch))
        except NotWrittenError as error:
            await self._pass_by(batch, error.late_commit)
            await asyncio.sleep(0)
        except psycopg.Error as error:
            await self._settle_apart(batch, error)
        except Exception as error:  # noqa: BLE001  # handed to the callers, whose server logs it
            fail(batch, error)
        else:
            self._acknowledge(batch, recording.new, recording.contents)

    def _events(self, batch: Sequence[PendingInteraction]) -> list[Event]:
        """Return the events to record; of several entries of one event, the first."""
        distinct: dict[bytes, Event] = {}
        for entry in batch:
            if entry.identity not in distinct:
                message = interaction_message(entry.interaction) if self._writer.has_kafka else None
                distinct[entry.identity] = Event(
                    entry.identity, entry.content, entry.interaction, message, entry.accepted_at
                )
        return [*distinct.values()]

    async def _settle_apart(self, batch: Sequence[PendingInteraction], error: psycopg.Error) -> None:
        """Find the entry that Postgres refuses, by halves, so that the others do not fail with it."""
        if len(batch) == 1:
            fail(batch, error)
            return
        middle = len(batch) // 2
        await self._settle(batch[:middle])
        await self._settle(batch[middle:])

    async def _pass_by(self, batch: Sequence[PendingInteraction], late_commit: LateCommit | None) -> None:
        """Leave the batch to Kafka, or try Postgres again if it returns while order does not allow Kafka yet."""
        if late_commit is None:
            fail(batch, NotDurableError(AWAY))
        elif await self._writer.may_pass_by():
            self._settle_by_kafka(batch, late_commit)
        else:
            for entry in batch:
                late_commit.on_outcome(entry.identity, durable=False)
            self._queue.give_back(batch)

    def _settle_by_kafka(self, batch: Sequence[PendingInteraction], late_commit: LateCommit) -> None:
        """Send the batch to Kafka, and acknowledge each entry when Kafka has it."""
        together: dict[bytes, list[PendingInteraction]] = {}
        for entry in batch:
            together.setdefault(entry.identity, []).append(entry)
        for identity, entries in together.items():
            if identity in self._recent:
                late_commit.on_outcome(identity, durable=True)
                self._acknowledge(entries, set(), {identity: self._recent.content(identity)})
                continue
            message = interaction_message(entries[0].interaction, unrecorded=True)
            self._writer.pass_by(message, entries[0].accepted_at, partial(self._sent, entries, late_commit))

    def _sent(self, entries: Sequence[PendingInteraction], late_commit: LateCommit, durable: bool) -> None:  # noqa: FBT001  # a callback
        identity = entries[0].identity
        late_commit.on_outcome(identity, durable=durable)
        if not durable:
            fail(entries, NotDurableError(AWAY))
        elif identity in self._recent:
            self._acknowledge(entries, set(), {identity: self._recent.content(identity)})
        else:
            self._acknowledge(entries, {identity}, {identity: entries[0].content})

    def _acknowledge(
        self, batch: Sequence[PendingInteraction], new: set[bytes], contents: Mapping[bytes, int | None]
    ) -> None:
        """Acknowledge each entry; of several entries of one new event the first is not a duplicate."""
        for entry in batch:
            identity = entry.identity
            content = contents[identity]
            self._recent.add(identity, content)
            if identity not in new:
                entry.acknowledge(content, duplicate=True)
                continue
            new.discard(identity)
            for listener in self._listeners:
                listener(entry.interaction)
            entry.acknowledge(None, duplicate=False)
