"""Defines the outcomes of a handed-in interaction: durable, or not durable in time."""

import asyncio
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID


class NotDurableError(Exception):
    """The event could not be made durable in time; it may be sent again with the same event id."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The event is durable; `duplicate` when it was so before, as far as is known while Postgres is away."""

    event_id: UUID
    duplicate: bool


Outcome: TypeAlias = asyncio.Future[Acknowledgement]
"""An acknowledgement, or NotDurableError, or EventIdReusedError, or a defect."""
