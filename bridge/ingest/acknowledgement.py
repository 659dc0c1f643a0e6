"""What callers wait for when they hand an interaction in."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from bridge.domain.event_identity import EventIdReusedError
from bridge.domain.interaction import Interaction


class NotDurableError(Exception):
    """The event could not be made durable in time; it may be sent again with the same event id."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The event is durable; `duplicate` when it was so before, as far as can be known while Postgres is away."""

    event_id: UUID
    duplicate: bool


Outcome: TypeAlias = asyncio.Future[Acknowledgement]
"""An acknowledgement, or NotDurableError, or EventIdReusedError, or a defect."""


@dataclass(frozen=True, slots=True)
class PendingInteraction:
    """An interaction under way.

    Attributes:
        interaction: What was done.
        identity: Of the user's event.
        content: Digest of what was done.
        accepted_at: When it was accepted, on the clock.
        done: What its caller waits for.
    """

    interaction: Interaction
    identity: bytes
    content: int
    accepted_at: float
    done: Outcome

    def acknowledge(self, content: int | None, *, duplicate: bool) -> None:
        """Tell the caller that it is durable, or that what is recorded under its identifier is something else."""
        if self.done.done():
            return
        if content is not None and content != self.content:
            self.done.set_exception(EventIdReusedError(self.interaction.event_id))
        else:
            self.done.set_result(Acknowledgement(self.interaction.event_id, duplicate))


def fail(entries: Iterable[PendingInteraction], error: Exception) -> None:
    """Give the callers that still wait the error."""
    for entry in entries:
        if not entry.done.done():
            entry.done.set_exception(error)
