"""Inserts interactions into Postgres, each once under an identifier of its user, with the outbox row of its message.

That is its own, or a derived one where its own is taken by another user.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID

from bridge.domain.event_identity import MAX_DERIVED, EventIdReusedError, derived_id, identity_of, owner_of
from bridge.domain.interaction import Interaction, InteractionType
from bridge.kafka.message import Message
from bridge.postgres.pool import Connection

T = TypeVar("T")

# Identifiers are inserted in order, so that two batches that share several of them cannot deadlock. A batch sees
# the outbox as it was before: `waiting` are the key's messages that Kafka had not acknowledged by then.
# An event that is repeated after its identifier was forgotten may be there already.
# All rows travel as one JSON text: adapting an array for each column takes twice the time here.
_RECORD: Final = """
WITH input AS (
    SELECT * FROM ROWS FROM (json_to_recordset(%s::json) AS (
        event_id uuid, owner bigint, content bigint,
        user_id text, video_id text, interaction_type text, watch_time_ms bigint,
        occurred_at timestamptz, rating float8, search_query text, feed_session_id text, algorithm text,
        model_version text, experiment_variant_id text, recommendation_score float8, metadata jsonb,
        topic text, value text, headers json
    )) WITH ORDINALITY AS rows (
        event_id, owner, content, user_id, video_id, interaction_type, watch_time_ms, occurred_at, rating, search_query,
        feed_session_id, algorithm, model_version, experiment_variant_id, recommendation_score, metadata,
        topic, value, headers, position
    )
), fresh AS (
    INSERT INTO interaction_ids (event_id, owner, content)
    SELECT event_id, owner, content FROM input ORDER BY event_id
    ON CONFLICT DO NOTHING RETURNING event_id
), recorded AS (
    INSERT INTO user_interactions (
        event_id, user_id, video_id, interaction_type, watch_time_ms, occurred_at, rating, search_query,
        feed_session_id, algorithm, model_version, experiment_variant_id, recommendation_score, metadata
    ) SELECT
        event_id, user_id, video_id, interaction_type, watch_time_ms, occurred_at, rating, search_query,
        feed_session_id, algorithm, model_version, experiment_variant_id, recommendation_score, metadata
    FROM input JOIN fresh USING (event_id) ON CONFLICT DO NOTHING
), queued AS (
    INSERT INTO interactions_outbox (id, aggregatetype, aggregateid, type, payload, headers)
    SELECT event_id, topic, user_id, interaction_type, value::json, headers
    FROM input JOIN fresh USING (event_id) WHERE topic IS NOT NULL ORDER BY position
)
SELECT event_id, CASE row_number() OVER (PARTITION BY user_id ORDER BY position)
    WHEN 1 THEN ARRAY(SELECT id FROM interactions_outbox WHERE aggregateid = user_id) ELSE '{}'
END AS waiting
FROM input JOIN fresh USING (event_id)
"""
_KNOWN: Final = "SELECT event_id, owner, content FROM interaction_ids WHERE event_id = ANY(%s::uuid[])"
# Older programs note identifiers without their owners: whose those are, the rows tell as long as there are any.
_ROWS: Final = """
SELECT event_id, user_id, video_id, interaction_type, watch_time_ms, occurred_at, rating, search_query
FROM user_interactions WHERE event_id = ANY(%s::uuid[])
"""
_KEEP: Final = "UPDATE interaction_ids SET recorded_at = now() WHERE event_id = ANY(%s::uuid[])"


@dataclass(frozen=True, slots=True)
class Known:
    """A recorded identifier: whether the asking user owns it, and the digest of its content if known."""

    own: bool
    content: int | None


class Run(Protocol):
    """Runs statements on a connection."""

    async def __call__(self, work: Callable[[Connection], Awaitable[T]], /) -> T:
        """Run statements, and return their results."""


@dataclass(frozen=True, slots=True)
class Event:
    """An interaction to record, with its message if it has one.

    Attributes:
        identity: Of the user's event, as it was sent.
        content: Digest of the interaction's content.
        interaction: With the identifier to record it under.
        message: Whose outbox row has the same identifier; its header keeps the one that was sent.
        accepted_at: When it was accepted, on the clock.
    """

    identity: bytes
    content: int
    interaction: Interaction
    message: Message | None = None
    accepted_at: float = 0.0

    @classmethod
    def of(cls, interaction: Interaction) -> "Event":
        """Return the event of an interaction as it was sent."""
        return cls(identity_of(interaction.event_id, interaction.user_id), interaction.content(), interaction)

    def derived(self) -> "Event":
        """Return the event under the next identifier."""
        event_id = derived_id(self.interaction.event_id, self.interaction.user_id)
        message = replace(self.message, event_id=event_id) if self.message else None
        return replace(self, interaction=replace(self.interaction, event_id=event_id), message=message)


@dataclass(slots=True)
class Recording:
    """The outcome of recording events.

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
        """Return the identities of the new events."""
        return {event.identity for event in self.fresh}


async def record_all(
    run: Run, events: Sequence[Event], hold: Callable[[Iterable[UUID]], None] = lambda _: None
) -> Recording:
    """Record events with different identities.

    Args:
        run: Runs each step.
        events: In the order in which they were accepted.
        hold: Called with the rows that are about to be inserted.
    """
    recording = Recording()
    left: Sequence[Event] = events
    for _ in range(MAX_DERIVED):
        if not left:
            return recording
        left = await _step(run, left, recording, hold)
    for event in left:
        recording.contents[event.identity] = -1 if event.content != -1 else 0  # anything else
    return recording


async def _step(
    run: Run, events: Sequence[Event], recording: Recording, hold: Callable[[Iterable[UUID]], None]
) -> list[Event]:
    """Insert the events that can be; return those to try once more."""
    first: dict[UUID, Event] = {}
    of_others = [event for event in events if first.setdefault(event.interaction.event_id, event) is not event]
    batch = [*first.values()]
    hold(first)
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
    """Note which events were recorded before; return those whose identifier another user owns, under their next one."""
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


async def record(
    connection: Connection,
    interactions: Sequence[Interaction],
    messages: Sequence[Message | None],
    contents: Sequence[int] | None = None,
) -> dict[UUID, list[UUID]]:
    """Insert the new interactions, each with its message if it has one.

    Args:
        connection: In a transaction that the caller commits.
        interactions: Not empty, with different event ids.
        messages: One for each interaction.
        contents: Their digests, where they are at hand.

    Returns:
        For each event that was new, the messages of its key that were in the outbox before them; named for the first
        event of each key only, as those of one busy user are many.
    """
    contents = contents or [interaction.content() for interaction in interactions]
    rows = [*map(_columns, interactions, messages, contents)]
    text = json.dumps(rows, ensure_ascii=False, check_circular=False, separators=(",", ":"))
    return dict(await (await connection.execute(_RECORD, [text])).fetchall())


async def find_known(connection: Connection, interactions: Sequence[Interaction]) -> dict[UUID, Known]:
    """Return the recorded identifiers of interactions that were not new."""
    wanted = {interaction.event_id: interaction for interaction in interactions}
    rows = await (await connection.execute(_KNOWN, [_array(wanted)])).fetchall()
    known = {
        event_id: Known(owner == owner_of(event_id, wanted[event_id].user_id), content)
        for event_id, owner, content in rows
        if owner is not None
    }
    unowned = [event_id for event_id, owner, _ in rows if owner is None]
    if unowned:
        for row in await (await connection.execute(_ROWS, [_array(unowned)])).fetchall():
            known[row[0]] = Known(row[1] == wanted[row[0]].user_id, _content(row))
    return known


async def keep_known(connection: Connection, event_ids: Iterable[UUID]) -> None:
    """Extend the retention of identifiers as if they had been recorded now."""
    await connection.execute(_KEEP, [_array(event_ids)])


def _content(row: tuple[Any, ...]) -> int:
    event_id, user_id, video_id, kind, watch_time_ms, occurred_at, rating, search_query = row
    return Interaction(
        event_id=event_id,
        user_id=user_id,
        video_id=video_id,
        interaction_type=InteractionType(kind),
        occurred_at=occurred_at,
        watch_time_ms=watch_time_ms,
        rating=rating,
        search_query=search_query or "",
    ).content()


def _array(event_ids: Iterable[UUID]) -> str:
    return "{" + ",".join(map(str, event_ids)) + "}"


def _columns(interaction: Interaction, message: Message | None, content: int) -> dict[str, Any]:
    origin = interaction.recommendation
    return {
        "event_id": str(interaction.event_id),
        "owner": owner_of(interaction.event_id, interaction.user_id),
        "content": content,
        "user_id": interaction.user_id,
        "video_id": interaction.video_id,
        "interaction_type": interaction.interaction_type.value,
        "watch_time_ms": interaction.watch_time_ms,
        "occurred_at": interaction.occurred_at.isoformat(),
        "rating": interaction.rating,
        "search_query": interaction.search_query or None,
        "feed_session_id": origin.feed_session_id or None,
        "algorithm": origin.algorithm or None,
        "model_version": origin.model_version or None,
        "experiment_variant_id": origin.experiment_variant_id or None,
        "recommendation_score": origin.recommendation_score,
        "metadata": dict(interaction.metadata),
        "topic": message.topic if message else None,
        "value": message.value if message else None,
        "headers": message.headers if message else None,
    }
