"""Defines how messages that were sent while Postgres was away become rows, for each topic."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from bridge.catalogue.visibility_table import take_in
from bridge.domain.event_identity import identity_of
from bridge.domain.interaction import Interaction, check_interaction
from bridge.ingest.feedback import Feedback, read_feedback
from bridge.ingest.interactions_table import Event, record_all, refuse_reused
from bridge.kafka.message import INTERACTIONS_TOPIC, read_interaction
from bridge.kafka.topics import CATALOGUE_TOPIC, FEEDBACK_TOPIC
from bridge.maintenance.erasure import forget_before, forget_feedback_before
from bridge.postgres.pool import Connection
from bridge.visibility.record import KafkaHide, read_kafka_hide
from servicekit.grpc.request_checks import Checker

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True, slots=True)
class BackfillTopic(Generic[T]):
    """A topic, with the reader and the writer of its events.

    Attributes:
        read: Returns what a message was made of; raises for what was no such event.
        identity: Returns whose event it is, by its identifier.
        content: Returns what the identifier stands for.
        occurred_at: Returns when it happened.
        record: Inserts events with different identities, and returns how many were new; ValueError, with nothing
            inserted, when an identifier is that of something else that its user did.
        forget: Deletes a user's events up to a time, milliseconds since 1970.
    """

    read: Callable[[bytes, Mapping[str, str]], T]
    identity: Callable[[T], bytes]
    content: Callable[[T], int]
    occurred_at: Callable[[T], datetime]
    record: Callable[[Connection, Sequence[T]], Awaitable[int]]
    forget: Callable[[Connection, str, int], Awaitable[int]]


def _read_interaction(value: bytes, headers: Mapping[str, str]) -> Interaction:
    """Return the interaction; ServiceError when it breaks a limit of the API other than that of its age."""
    interaction, checker = read_interaction(value, headers), Checker()
    check_interaction(interaction, checker, "interaction", interaction.occurred_at)
    checker.finish()
    return interaction


async def _record_interactions(connection: Connection, interactions: Sequence[Interaction]) -> int:
    async def run(work: Callable[[Connection], Awaitable[R]], /) -> R:
        return await work(connection)

    events = [*map(Event.of, interactions)]
    recording = await record_all(run, events)
    refuse_reused(events, recording)
    return len(recording.fresh)


async def _record_feedback(connection: Connection, feedback: Sequence[Feedback]) -> int:
    fresh = 0
    for one in feedback:
        new, _ = await one.record(connection)  # its message is in Kafka
        fresh += new
    return fresh


async def _take_in_hides(connection: Connection, hides: Sequence[KafkaHide]) -> int:
    return await take_in(connection, hides)


async def _forget_nothing(connection: Connection, key: str, until_ms: int) -> int:  # noqa: ARG001  # all topics' readers take them
    """Do nothing: a tombstone says that a video was deleted, of which Postgres has told."""
    return 0


def _identity(event: Interaction | Feedback) -> bytes:
    return identity_of(event.event_id, event.user_id)


def _occurred_at(event: Interaction | Feedback) -> datetime:
    return event.occurred_at


BACKFILL_TOPICS: Final[Mapping[str, BackfillTopic[Any]]] = {
    INTERACTIONS_TOPIC: BackfillTopic(
        read=_read_interaction,
        identity=_identity,
        content=Interaction.content,
        occurred_at=_occurred_at,
        record=_record_interactions,
        forget=forget_before,
    ),
    FEEDBACK_TOPIC: BackfillTopic(
        read=read_feedback,
        identity=_identity,
        content=Feedback.content,
        occurred_at=_occurred_at,
        record=_record_feedback,
        forget=forget_feedback_before,
    ),
    CATALOGUE_TOPIC: BackfillTopic(
        read=lambda value, _: read_kafka_hide(value),
        identity=lambda hide: hide.hide_id.bytes + f"{hide.kind}:{hide.id}".encode(),
        content=lambda _: 0,
        occurred_at=lambda hide: hide.since,
        record=_take_in_hides,
        forget=_forget_nothing,
    ),
}
"""By topic."""
