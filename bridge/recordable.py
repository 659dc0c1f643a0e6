"""What the messages of a topic become in Postgres, where they were sent while that was away."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from bridge.database import Connection
from bridge.erasure import forget_before, forget_feedback_before
from bridge.feedback import Feedback, read_feedback
from bridge.interaction import Interaction, check_interaction
from bridge.interaction_store import record
from bridge.message import INTERACTIONS_TOPIC, read_interaction
from bridge.topics import FEEDBACK_TOPIC
from servicekit.validation import Checker

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recordable(Generic[T]):
    """One topic's events.

    Attributes:
        read: Returns what a message was made of; raises for what was no such event.
        event_id: Returns its identifier.
        record: Inserts events with different identifiers, and returns how many were new.
        forget: Deletes a user's events up to a time, milliseconds since 1970.
    """

    read: Callable[[bytes, Mapping[str, str]], T]
    event_id: Callable[[T], UUID]
    record: Callable[[Connection, Sequence[T]], Awaitable[int]]
    forget: Callable[[Connection, str, int], Awaitable[int]]


def _read_interaction(value: bytes, headers: Mapping[str, str]) -> Interaction:
    """Return the interaction; ServiceError when it breaks a limit of the API, other than its age."""
    interaction, checker = read_interaction(value, headers), Checker()
    check_interaction(interaction, checker, "interaction", interaction.occurred_at)
    checker.finish()
    return interaction


async def _record_interactions(connection: Connection, interactions: Sequence[Interaction]) -> int:
    return len(await record(connection, interactions, [None] * len(interactions)))


async def _record_feedback(connection: Connection, feedback: Sequence[Feedback]) -> int:
    fresh = 0
    for one in feedback:
        new, _ = await one.record(connection)  # its message is in Kafka
        fresh += new
    return fresh


def _interaction_id(interaction: Interaction) -> UUID:
    return interaction.event_id


def _feedback_id(feedback: Feedback) -> UUID:
    return feedback.event_id


RECORDABLE: Final[Mapping[str, Recordable[Any]]] = {
    INTERACTIONS_TOPIC: Recordable(
        read=_read_interaction, event_id=_interaction_id, record=_record_interactions, forget=forget_before
    ),
    FEEDBACK_TOPIC: Recordable(
        read=read_feedback, event_id=_feedback_id, record=_record_feedback, forget=forget_feedback_before
    ),
}
"""By topic."""
