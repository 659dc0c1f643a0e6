"""Records interactions in Postgres: each once, under its own identifier, or a derived one where that is taken."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar
from uuid import UUID

from bridge.domain.event_identity import MAX_DERIVED, EventIdReusedError, derived_id, identity_of
from bridge.domain.interaction import Interaction
from bridge.ingest.interactions_table import find_known, keep_known, record
from bridge.kafka.message import Message
from bridge.postgres.pool import Connection

T = TypeVar("T")


class Run(Protocol):
    """Runs statements."""

    async def __call__(self, work: Callable[[Connection], Awaitable[T]], /) -> T:
        """Return what they return."""


@dataclass(frozen=True, slots=True)
class Event:
    """An interaction to record, with its message where there is one.

    Attributes:
        identity: Of the user's event, as it was sent.
        content: Digest of what was done.
        interaction: With the identifier to record it under.
        message: Whose outbox row has the same identifier; its header keeps the one that was sent.
    """

    identity: bytes
    content: int
    interaction: Interaction
    message: Message | None = None

    @classmethod
    def of(cls, interaction: Interaction) -> "Event":
        """Return the event of an interaction as it was sent."""
        return cls(identity_of(interaction.event_id, interaction.user_id), interaction.content(), interaction)

    def derived(self) -> "Event":
        """Return it under the next identifier."""
        event_id = derived_id(self.interaction.event_id, self.interaction.user_id)
        message = replace(self.message, event_id=event_id) if self.message else None
        return Event(self.identity, self.content, replace(self.interaction, event_id=event_id), message)


@dataclass(slots=True)
class Recording:
    """What became of events.

    Attributes:
        fresh: Those that were new, in the order in which they were recorded.
        waiting: For each of these, by its identifier, what its key had in the outbox before.
        contents: By identity, the content that is recorded; None where that is not known.
        known: Events that were there before.
    """

    fresh: list[Event] = field(default_factory=list)
    waiting: dict[UUID, list[UUID]] = field(default_factory=dict)
    contents: dict[bytes, int | None] = field(default_factory=dict)
    known: list[Event] = field(default_factory=list)

    @property
    def new(self) -> set[bytes]:
        """The identities of those that were new."""
        return {event.identity for event in self.fresh}


async def record_all(
    run: Run, events: Sequence[Event], claim: Callable[[Sequence[Event]], None] = lambda _: None
) -> Recording:
    """Record events with different identities.

    Args:
        run: Runs each step.
        events: In the order in which they were accepted.
        claim: Told of the events that are about to be inserted.
    """
    recording = Recording()
    left: Sequence[Event] = events
    for _ in range(MAX_DERIVED):
        if not left:
            return recording
        left = await _step(run, left, recording, claim)
    for event in left:
        recording.contents[event.identity] = -1 if event.content != -1 else 0  # anything else
    return recording


async def _step(
    run: Run, events: Sequence[Event], recording: Recording, claim: Callable[[Sequence[Event]], None]
) -> list[Event]:
    """Insert what can be; return what is to be tried once more."""
    first: dict[UUID, Event] = {}
    of_others = [event for event in events if first.setdefault(event.interaction.event_id, event) is not event]
    batch = [*first.values()]
    claim(batch)
    interactions, messages = [event.interaction for event in batch], [event.message for event in batch]
    contents = [event.content for event in batch]
    waiting = await run(lambda connection: record(connection, interactions, messages, contents))
    recording.waiting |= waiting
    old = []
    for event in batch:
        if event.interaction.event_id in waiting:
            recording.fresh.append(event)
            recording.contents[event.identity] = event.content
        else:
            old.append(event)
    return [*(await _known(run, old, recording) if old else ()), *of_others]


async def _known(run: Run, events: Sequence[Event], recording: Recording) -> list[Event]:
    """Note which events were there before; return those whose identifier is another user's, under their next one."""
    interactions = [event.interaction for event in events]
    known = await run(lambda connection: find_known(connection, interactions))
    others = []
    for event in events:
        found = known.get(event.interaction.event_id)
        if found is None or found.own:
            recording.contents[event.identity] = found.content if found else None
            recording.known.append(event)
        else:
            others.append(event)
    if others:  # must not be forgotten before what is derived from them
        taken = [event.interaction.event_id for event in others]
        await run(lambda connection: keep_known(connection, taken))
    return [event.derived() for event in others]


def refuse_reused(events: Sequence[Event], recording: Recording) -> None:
    """Raise EventIdReusedError for the first event whose identifier stands for another content."""
    for event in events:
        content = recording.contents[event.identity]
        if content is not None and content != event.content:
            raise EventIdReusedError(event.interaction.event_id)
