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
MIN_PATIENCE_S: Final = 0.1
RETRY_S: Final = 0.25
"""Seconds between two attempts to reach Postgres while Kafka has not answered."""


@dataclass(frozen=True, slots=True)
class Hid:
    """A hide that is durable: in Postgres with its revision, in Kafka alone with 0."""

    revision: int
    created: bool

    @property
    def in_postgres(self) -> bool:
        """True once Postgres has the hide."""
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
        sending: _Sending | None = None
        while True:
            left_s = due - self._clock()
            patience_s = min(left_s, COMMIT_TIMEOUT_S, max(MIN_PATIENCE_S, left_s - KAFKA_RESERVE_S))
            try:
                taken = await self._store(kind, hides, reason, actor, patience_s)
            except NotDurableError:
                sending = sending or self._send(kind, hides, reason, actor)
            else:
                self._hidden.take_in(one.state for one in taken.values())
                await self._hidden.keep()
                return {name: Hid(one.revision, one.created) for name, one in taken.items()}
            # Postgres may be back before Kafka is.
            left_s = due - self._clock()
            if await sending.ended(max(0.0, min(RETRY_S, left_s))) or left_s <= RETRY_S:
                return await self._sent(sending)

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

    def _send(self, kind: Kind, hides: Mapping[str, UUID], reason: str, actor: str) -> "_Sending":
        """Begin to make hides durable in Kafka; those that it has already from here are."""
        known = [name for name in hides if self._hidden.set.is_untaken(kind, name)]
        sending, since = _Sending(known), self._now()
        for name in hides.keys() - {*known}:
            hide = KafkaHide(kind=kind, id=name, hide_id=hides[name], reason=reason, actor=actor, since=since)
            outcome = sending.add(hide)
            if self._publisher is None:
                outcome.set_result(False)
            else:
                self._publisher.publish(hide.message(), _setter(outcome))
        return sending

    async def _sent(self, sending: "_Sending") -> dict[str, Hid]:
        """Return the hides that Kafka has; NotDurableError when it has none."""
        durable = sending.durable()
        if not sending.known and not durable:
            raise NotDurableError(AWAY)
        self._hidden.take_in(one.change() for one in durable)
        await self._hidden.keep()
        return dict.fromkeys(sending.known, Hid(0, created=False)) | {one.id: Hid(0, created=True) for one in durable}


class _Sending:
    """Hides on their way to Kafka.

    Args:
        known: What is hidden by Kafka already.
    """

    def __init__(self, known: Sequence[str]) -> None:
        self.known = known
        self._outcomes: list[tuple[KafkaHide, asyncio.Future[bool]]] = []

    def add(self, hide: KafkaHide) -> "asyncio.Future[bool]":
        """Return what is to be told whether Kafka has a hide."""
        outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._outcomes.append((hide, outcome))
        return outcome

    async def ended(self, timeout_s: float) -> bool:
        """Return whether Kafka has all of them, within a time; one that it has not taken waits for Postgres."""
        waiting = [outcome for _, outcome in self._outcomes if not outcome.done()]
        if waiting:
            await asyncio.wait(waiting, timeout=timeout_s)
        elif not self._has_all():
            await asyncio.sleep(timeout_s)
        return self._has_all()

    def durable(self) -> list[KafkaHide]:
        """Return those that Kafka has."""
        return [hide for hide, outcome in self._outcomes if outcome.done() and outcome.result()]

    def _has_all(self) -> bool:
        return len(self.durable()) == len(self._outcomes)


def _setter(outcome: "asyncio.Future[bool]") -> Callable[[bool], None]:
    def ended(durable: bool) -> None:  # noqa: FBT001  # a callback
        if not outcome.done():
            outcome.set_result(durable)

    return ended


def _ignore(durable: bool) -> None:  # noqa: FBT001  # a callback
    """Do nothing: the outbox has the message as well."""
