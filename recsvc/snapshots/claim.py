"""Lets one of a fleet take the snapshot of an hour: by compare-and-swap, and only for so long."""

import json
from typing import Final

from servicekit.inputs.json_fields import JsonObject
from servicekit.storage.object_store import MISSING, ObjectChangedError, ObjectNotFoundError, ObjectStore

KEY: Final = "live-state/claim.json"
CLAIM_MS: Final = 15 * 60_000
"""Who claimed and died is followed by another one after this time."""
MAX_TIME_MS: Final = 2**53


class Claim:
    """The claim of one process.

    Args:
        store: The model store.
        owner: Who claims; a name of its own for each process.
    """

    def __init__(self, store: ObjectStore, owner: str) -> None:
        self._store = store
        self._owner = owner

    def make(self, now_ms: int) -> bool:
        """Claim the hour, and return whether nobody else has; OSError when the store fails."""
        owner, until_ms, tag = self._read()
        # One from a clock that is far ahead would hold for as long.
        if owner != self._owner and now_ms < until_ms <= now_ms + 2 * CLAIM_MS:
            return False
        return self._write(now_ms + CLAIM_MS, tag)

    def end(self) -> None:
        """Let others claim, unless they have already; OSError when the store fails."""
        owner, _, tag = self._read()
        if owner == self._owner:
            self._write(0, tag)

    def _read(self) -> tuple[str, int, str]:
        try:
            content = self._store.read(KEY)
        except ObjectNotFoundError:
            return "", 0, MISSING
        try:
            fields = JsonObject(content.data)
            return fields.text("owner"), fields.whole("until_ms", most=MAX_TIME_MS), content.tag
        except ValueError:
            return "", 0, content.tag  # of nobody who could be waited for

    def _write(self, until_ms: int, tag: str) -> bool:
        try:
            self._store.replace(KEY, json.dumps({"owner": self._owner, "until_ms": until_ms}).encode(), tag=tag)
        except ObjectChangedError:
            return False
        return True
