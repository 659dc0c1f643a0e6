"""Events that were acknowledged a moment ago, so that repeats are recognised without Postgres."""

from typing import Final

MAX_IDS: Final = 50_000


class RecentEvents:
    """Remembers the identities and contents of the latest events, and forgets the oldest beyond `most`."""

    def __init__(self, most: int = MAX_IDS) -> None:
        self._most = most
        self._contents: dict[bytes, int | None] = {}

    def __contains__(self, identity: bytes) -> bool:
        return identity in self._contents

    def __len__(self) -> int:
        return len(self._contents)

    def content(self, identity: bytes) -> int | None:
        """Return the content of a remembered event; None where it is not known."""
        return self._contents[identity]

    def add(self, identity: bytes, content: int | None) -> None:
        """Remember an event."""
        if identity in self._contents:
            return
        self._contents[identity] = content
        if len(self._contents) > self._most:
            del self._contents[next(iter(self._contents))]
