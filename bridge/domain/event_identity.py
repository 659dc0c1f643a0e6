"""Identifies events: an identifier counts for its user only, and stands for one content.

Where an identifier is another user's already, the event is recorded under one that is derived from both, so that
nobody can keep somebody else's events out by sending their identifiers first.
"""

from hashlib import blake2b
from typing import Final
from uuid import UUID

MAX_DERIVED: Final = 4
"""How often in a row an identifier that is derived may be taken, which is no accident."""


class EventIdReusedError(ValueError):
    """The user has used the identifier for another event."""

    def __init__(self, event_id: UUID) -> None:
        super().__init__(f"event_id {event_id} stands for something else that this user did; send a new one")


def identity_of(event_id: UUID, user_id: str) -> bytes:
    """Return 16 bytes that identify the user's event."""
    return blake2b(event_id.bytes + user_id.encode(), digest_size=16).digest()


def derived_id(event_id: UUID, user_id: str) -> UUID:
    """Return the identifier for a user's event whose own identifier another user has taken."""
    return UUID(bytes=identity_of(event_id, user_id))


def owner_of(event_id: UUID, user_id: str) -> int:
    """Return the number that Postgres stores for the owner of an identifier."""
    return int.from_bytes(identity_of(event_id, user_id)[:8], signed=True)


def content_of(text: str) -> int:
    """Return the number that Postgres stores for the content of an event."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), signed=True)
