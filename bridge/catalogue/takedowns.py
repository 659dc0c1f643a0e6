"""Hides and restorations: durable in Postgres, or for hides in Kafka, known here at once, and told to all others.

A hide is sent straight after its commit, although its outbox row will be sent once more: behind records of its key that
still wait there it would come seconds later. Whoever reads both goes by their revisions.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

from bridge.catalogue import visibility_table
from bridge.catalogue.visibility_table import Lifted, NotLifted, OutboxRow, Taken
from bridge.domain.deadline import Clock
from bridge.ingest.acknowledgement import NotDurableError
from bridge.ingest.transactional_write import COMMIT_TIMEOUT_S, TransactionalWriter
from bridge.kafka.message import Message
from bridge.kafka.topics import CATALOGUE_TOPIC
from bridge.outbox.outbox import Publisher
from bridge.postgres.pool import Connection
from bridge.visibility.changes import Kind
from bridge.visibility.hidden import Hidden
from bridge.visibility.record import KafkaHide

AWAY: Final = "the hide cannot be made durable now"
KAFKA_RESERVE_S: Final = 0.5
"""Seconds of a caller's time that are left to Kafka where Postgres does not answer."""


@dataclass(frozen=True, slots=True)
class Hid:
    """A hide that is durable: in Postgres with its revision, in Kafka alone with 0."""

    revision: int
    created: bool

    @property
    def in_postgres(self) -> bool:
        """Whether Postgres has it."""
        return self.revision > 0


class Takedowns:
    """Takes hides and restorations. Belongs to one event loop.

    Args:
        writer: Writes to Postgres.
        publisher: Tells others at once; None where there is no Kafka.
        hidden: What this bridge knows.
        clock: Monotonic seconds.
        now: The time of day (UTC).
        new_id: Makes names of hides.
    """

    def __init__(
        self,
        writer: TransactionalWriter,
        publisher: Publisher | None,
        hidden: Hidden,
        clock: Clock,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_id: Callable[[], UUID] = uuid4,
    ) -> None:
        self._writer = writer
        self._publisher = publisher
        self._hidden = hidden
        self._clock = clock
        self._now = now
        self._new_id = new_id

    async def hide(
        self, kind: Kind, names: Iterable[str], *, reason: str, actor: str, timeout_s: float
    ) -> dict[str, Hid]:
        """Return the hides that are durable, in Postgres or in Kafka; NotDurableError when none is.

        Args:
            kind: What is hidden.
            names: Different ids.
            reason: Why.
            actor: Who asks for it.
            timeout_s: Seconds that this may take.
        """
        due = self._clock() + timeout_s
        hides = {name: self._new_id() for name in names}
        try:
            patience_s = min(timeout_s, COMMIT_TIMEOUT_S, max(0.1, timeout_s - KAFKA_RESERVE_S))
            taken = await self._store(kind, hides, reason, actor, patience_s)
        except NotDurableError:
            taken = None
        if taken is not None:
            self._hidden.take_in(one.state for one in taken.values())
            await self._hidden.keep()
            return {name: Hid(one.revision, one.created) for name, one in taken.items()}
        since = self._now()
        return await self._send(
            [
                KafkaHide(kind=kind, id=name, hide_id=hide_id, reason=reason, actor=actor, since=since)
                for name, hide_id in hides.items()
            ],
            due - self._clock(),
        )

    async def restore(
        self, kind: Kind, wanted: Mapping[str, int], *, reason: str, actor: str, timeout_s: float
    ) -> dict[str, Lifted | NotLifted]:
        """Lift hides by their revisions, in Postgres; NotDurableError while that is away."""

        async def work(connection: Connection) -> tuple[dict[str, Lifted | NotLifted], Sequence[Message]]:
            outcomes = await visibility_table.restore(connection, kind, wanted, reason, actor)
            told[:] = await visibility_table.records(connection, kind, outcomes)
            return outcomes, ()

        told: list[OutboxRow] = []
        outcomes = await self._writer.write(work, timeout_s=timeout_s)
        self._tell(told)
        self._hidden.take_in(one.state for one in outcomes.values() if isinstance(one, Lifted))
        await self._hidden.keep()
        return outcomes

    async def _store(
        self, kind: Kind, hides: Mapping[str, UUID], reason: str, actor: str, timeout_s: float
    ) -> dict[str, Taken]:
        async def work(connection: Connection) -> tuple[dict[str, Taken], Sequence[Message]]:
            taken = await visibility_table.hide(connection, kind, hides, reason, actor)
            told[:] = await visibility_table.records(connection, kind, taken)
            return taken, ()

        told: list[OutboxRow] = []
        taken = await self._writer.write(work, timeout_s=timeout_s, hand_over=True)
        self._tell(told)
        return taken

    def _tell(self, rows: Iterable[OutboxRow]) -> None:
        """Send what is committed; the relay does so again, in the order of each key."""
        if self._publisher is None:
            return
        for row in rows:
            message = Message(
                event_id=row.id,
                topic=CATALOGUE_TOPIC,
                key=row.key,
                kind=row.kind,
                value=row.payload,
                headers={"event-id": str(row.id)},
            )
            self._publisher.publish(message, _ignore)

    async def _send(self, hides: Sequence[KafkaHide], timeout_s: float) -> dict[str, Hid]:
        """Make hides durable in Kafka; those that it has already from here are."""
        known = [one for one in hides if self._hidden.set.is_untaken(one.kind, one.id)]
        fresh = [one for one in hides if not self._hidden.set.is_untaken(one.kind, one.id)]
        if self._publisher is None or timeout_s <= 0:
            raise NotDurableError(AWAY)
        loop = asyncio.get_running_loop()
        outcomes: list[asyncio.Future[bool]] = []
        for one in fresh:
            outcome: asyncio.Future[bool] = loop.create_future()
            self._publisher.publish(one.message(), _setter(outcome))
            outcomes.append(outcome)
        if outcomes:
            await asyncio.wait(outcomes, timeout=timeout_s)
        durable = [one for one, outcome in zip(fresh, outcomes, strict=True) if outcome.done() and outcome.result()]
        if not known and not durable:
            raise NotDurableError(AWAY)
        self._hidden.take_in(one.change() for one in durable)
        await self._hidden.keep()
        created = {one.id for one in durable}
        return {one.id: Hid(0, one.id in created) for one in (*known, *durable)}


def _setter(outcome: "asyncio.Future[bool]") -> Callable[[bool], None]:
    def ended(durable: bool) -> None:  # noqa: FBT001  # a callback
        if not outcome.done():
            outcome.set_result(durable)

    return ended


def _ignore(durable: bool) -> None:  # noqa: FBT001  # a callback
    """Do nothing: the outbox has the message as well."""
