"""Events that came lately, so that a repeated delivery is told."""

from typing import Final

MOST: Final = 100_000
"""Events that are known at least; twice as many at most."""


class RecentEvents:
    """Remembers events by user and id, in bounded memory.

    Each is kept as one number of 64 bits, drawn with a key of the process's own: nobody can make two alike.

    Args:
        most: See MOST.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._newer: set[int] = set()
        self._older: set[int] = set()

    def is_repeated(self, event_id: bytes, user: bytes | str) -> bool:
        """Return whether this user's event came before; it is known from now on.

        An id counts for its user only: anybody may have sent the same.
        """
        event = hash((event_id, user))
        if event in self._newer or event in self._older:
            return True
        self._newer.add(event)
        if len(self._newer) >= self._most:
            self._older, self._newer = self._newer, set()
        return False

    def clear(self) -> None:
        """Forget all events, as the same ones are read again."""
        self._newer, self._older = set(), set()
