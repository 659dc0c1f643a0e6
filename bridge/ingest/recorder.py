"""Takes interactions in: durable first, then acknowledged, then published.

Durable is in Postgres; while that is away, in Kafka, from where a `Backfill` brings them to Postgres later.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import psycopg
import structlog

from bridge.domain.deadline import Clock
from bridge.domain.event_identity import identity_of
from bridge.domain.interaction import Interaction, InteractionListener
from bridge.ingest.acknowledgement import NotDurableError, Outcome, PendingInteraction, fail
from bridge.ingest.batch_commit import Commit, Committer
from bridge.ingest.commit_queue import CommitQueue
from bridge.ingest.recent_event_ids import RecentEvents
from bridge.ingest.timeout_wheel import TimeoutWheel
from bridge.kafka.message import interaction_message
from bridge.outbox.late_commits import LateCommit
from bridge.outbox.outbox import Outbox
from bridge.postgres.availability import Availability
from bridge.postgres.pool import Database, DatabaseUnavailableError

COMMIT_TIMEOUT_S: Final = 1.0
"""A commit that takes longer leaves its events to Kafka."""
ORDER_WAIT_S: Final = 15.0
ORDER_LOOK_S: Final = 0.05
AWAY: Final = "interactions cannot be made durable now"

logger = structlog.get_logger(__name__)


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
        self._outbox = outbox
        self._clock = clock
        self._availability = availability
        self._commit_timeout_s = commit_timeout_s
        self._order_wait_s = order_wait_s
        self._listeners = listeners
        self._committer = Committer(database, outbox)
        self._queue = CommitQueue(clock)
        self._expiry = TimeoutWheel()
        self._recent = RecentEvents()
        self._late: set[asyncio.Task[Commit]] = set()
        self._impatient = False

    def submit(self, interaction: Interaction, *, timeout_s: float) -> Outcome:
        """Return the future outcome; cancelling it gives the interaction up where its turn has not come.

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
        """How many interactions have not had their turn."""
        return len(self._queue)

    async def write(self) -> None:
        """Commit what arrives, batch by batch; forever."""
        while True:
            await self._settle(await self._queue.take())

    async def _settle(self, batch: Sequence[PendingInteraction]) -> None:
        if self._outbox is None:
            await self._settle_in_postgres(batch)
        elif self._availability.away:
            await self._pass_by(self._outbox, batch, LateCommit(self._outbox))
            await asyncio.sleep(0)
        else:
            await self._settle_or_give_up(self._outbox, batch)

    async def _settle_in_postgres(self, batch: Sequence[PendingInteraction]) -> None:
        try:
            commit = await self._committer.commit(batch)
        except DatabaseUnavailableError:
            fail(batch, NotDurableError(AWAY))
        except psycopg.Error as error:
            await self._settle_apart(batch, error)
        except Exception as error:  # noqa: BLE001  # handed to the callers, whose server logs it
            fail(batch, error)
        else:
            self._finish(batch, commit)

    async def _settle_apart(self, batch: Sequence[PendingInteraction], error: psycopg.Error) -> None:
        """Find the entry that Postgres refuses, by halves, so that the others do not fail with it."""
        if len(batch) == 1:
            fail(batch, error)
            return
        middle = len(batch) // 2
        await self._settle(batch[:middle])
        await self._settle(batch[middle:])

    async def _settle_or_give_up(self, outbox: Outbox, batch: Sequence[PendingInteraction]) -> None:
        """Commit the batch, or leave it to Kafka when Postgres is away or takes too long."""
        commit = asyncio.create_task(self._committer.commit(batch))
        # Not cancelled when late: psycopg would wait for Postgres to confirm that, and the commit may yet succeed.
        done, _ = await asyncio.wait([commit], timeout=self._commit_timeout_s)
        if not done:
            self._late.add(commit)
            self._availability.lost()
            handover = LateCommit(outbox)
            commit.add_done_callback(partial(self._settled_late, handover))
            await self._pass_by(outbox, batch, handover)
            return
        error = commit.exception()
        if isinstance(error, DatabaseUnavailableError):
            self._availability.lost()
            await self._pass_by(outbox, batch, LateCommit(outbox))
        elif isinstance(error, psycopg.Error):
            await self._settle_apart(batch, error)
        elif isinstance(error, Exception):
            fail(batch, error)
        else:
            self._finish(batch, commit.result())

    async def _pass_by(self, outbox: Outbox, batch: Sequence[PendingInteraction], handover: LateCommit) -> None:
        """Leave the batch to Kafka, or try Postgres again when that is back before order allows it."""
        if await self._may_pass_by(outbox):
            self._settle_by_kafka(outbox, batch, handover)
            return
        for entry in batch:
            handover.sent(entry.identity, durable=False)
        self._queue.give_back(batch)

    async def _may_pass_by(self, outbox: Outbox) -> bool:
        """Wait until later messages cannot overtake what is left in the outbox; return whether Postgres is still away.

        After a start that is not known until the outbox has been looked at. As Postgres may be away for long, order is
        waited for no longer than `order_wait_s`.
        """
        while self._availability.away and not outbox.known and self._availability.away_s < self._order_wait_s:  # noqa: ASYNC110
            await asyncio.sleep(ORDER_LOOK_S)  # three things may end it, one of them the time
        if self._availability.away and not outbox.known and not self._impatient:
            self._impatient = True
            logger.warning("order.not_waited_for", consequence="events may come before earlier ones of their user")
        return self._availability.away

    def _finish(self, batch: Sequence[PendingInteraction], commit: Commit) -> None:
        if self._outbox is not None:
            self._outbox.dispatch(commit.fresh, commit.recording.waiting)
        self._acknowledge(batch, commit.recording.new, commit.recording.contents)

    def _settled_late(self, handover: LateCommit, commit: "asyncio.Task[Commit]") -> None:
        self._late.discard(commit)
        if not commit.cancelled() and commit.exception() is None:
            handover.committed(accepted.message for accepted in commit.result().fresh)

    def _settle_by_kafka(self, outbox: Outbox, batch: Sequence[PendingInteraction], handover: LateCommit) -> None:
        """Send the batch to Kafka, and acknowledge each entry when Kafka has it."""
        together: dict[bytes, list[PendingInteraction]] = {}
        for entry in batch:
            together.setdefault(entry.identity, []).append(entry)
        for identity, entries in together.items():
            if identity in self._recent:
                handover.sent(identity, durable=True)
                self._acknowledge(entries, set(), {identity: self._recent.content(identity)})
                continue
            message = interaction_message(entries[0].interaction, unrecorded=True)
            outbox.send_unrecorded(message, entries[0].accepted_at, partial(self._sent, entries, handover))

    def _sent(self, entries: Sequence[PendingInteraction], handover: LateCommit, durable: bool) -> None:  # noqa: FBT001  # a callback
        identity = entries[0].identity
        handover.sent(identity, durable=durable)
        if not durable:
            fail(entries, NotDurableError(AWAY))
        elif identity in self._recent:
            self._acknowledge(entries, set(), {identity: self._recent.content(identity)})
        else:
            self._acknowledge(entries, {identity}, {identity: entries[0].content})

    def _acknowledge(
        self, batch: Sequence[PendingInteraction], new: set[bytes], contents: Mapping[bytes, int | None]
    ) -> None:
        """Tell each caller; of several that sent one new event in a batch the first is the one that did."""
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
