"""What callers wait for when they hand an interaction in."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from bridge.interaction import Interaction


class RecorderUnavailableError(Exception):
    """The event could not be made durable in time; it may be sent again with the same event id."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The event is durable; `duplicate` when it was so before, as far as can be known while Postgres is away."""

    event_id: UUID
    duplicate: bool


Outcome: TypeAlias = asyncio.Future[Acknowledgement]
"""An acknowledgement, or RecorderUnavailableError, or a defect."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An interaction under way: when it was accepted, on the clock, and what its caller waits for."""

    interaction: Interaction
    accepted_at: float
    done: Outcome


def fail(entries: Iterable[Entry], error: Exception) -> None:
    """Give the callers that still wait the error."""
    for entry in entries:
        if not entry.done.done():
            entry.done.set_exception(error)
