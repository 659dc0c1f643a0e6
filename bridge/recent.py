"""Events that were acknowledged a moment ago, so that repeats are recognised without Postgres."""

from collections import deque
from typing import Final
from uuid import UUID

MOST: Final = 50_000


class RecentEvents:
    """Remembers the identifiers of the latest events, and forgets the oldest beyond `most`."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._known: set[UUID] = set()
        self._order: deque[UUID] = deque()

    def __contains__(self, event_id: UUID) -> bool:
        return event_id in self._known

    def __len__(self) -> int:
        return len(self._known)

    def add(self, event_id: UUID) -> None:
        """Remember an event."""
        if event_id in self._known:
            return
        self._known.add(event_id)
        self._order.append(event_id)
        if len(self._order) > self._most:
            self._known.discard(self._order.popleft())
