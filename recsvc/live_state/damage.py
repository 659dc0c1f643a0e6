"""Reports of damage: a worker that reads a damaged value tells the follower, at the cost of one write to memory."""

from pathlib import Path
from typing import Final

from recsvc.workers.change_counter import SharedCounter

REPORTED: Final = "damage.count"
"""File that counts reports of damage."""
SETTLED: Final = "damage.settled"
"""File with the number of reports that were looked into."""


class Damage:
    """The count of damage reports on a store, in memory that all processes share.

    Args:
        folder: Of the store.
    """

    def __init__(self, folder: Path) -> None:
        self._reported = SharedCounter(folder / REPORTED)
        self._settled = SharedCounter(folder / SETTLED)

    def report(self) -> None:
        """Tell the follower that a value was not the one that had been written."""
        self._reported.advance()

    @property
    def is_reported(self) -> bool:
        """Return whether a report waits to be looked into."""
        self._reported.renew()
        return self._reported.get() != self._settled.get()

    @property
    def reports(self) -> int:
        """Return how many reports there were since the folder was made."""
        return self._reported.get()

    def settle(self, reports: int) -> None:
        """Note that these reports, and those before, were looked into."""
        while self._settled.get() < reports:
            self._settled.advance()
