"""Restarts parts that end."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from deploy.local.child_process import Child, ChildError
from deploy.local.output import say

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 10.0
SETTLED_AFTER_S: Final = 30.0
LOOK_EVERY_S: Final = 0.1


class Restartable(Protocol):
    """A part of the system that can be started again in the same place."""

    child: Child | None

    def start(self) -> object:
        """Start the part, and return when it is ready; ChildError if it is not."""


@dataclass(slots=True)
class Watched:
    """A part with the pause before its next start, which doubles while the part keeps ending."""

    name: str
    part: Restartable
    pause_s: float = FIRST_PAUSE_S
    started_at: float = field(default_factory=time.monotonic)

    def look(self, sleep: Callable[[float], None]) -> None:
        """Restart the part if it has ended."""
        child = self.part.child
        if child is None or child.running:
            return
        if time.monotonic() - self.started_at > SETTLED_AFTER_S:
            self.pause_s = FIRST_PAUSE_S
        say(f"{self.name} ended with status {child.process.returncode}; starting it again in {self.pause_s:g} s")
        sleep(self.pause_s)
        self.pause_s = min(2 * self.pause_s, LONGEST_PAUSE_S)
        self._start()

    def _start(self) -> None:
        self.started_at = begun = time.monotonic()
        try:
            self.part.start()
        except ChildError as error:
            say(f"error: {error}")
        else:
            say(f"{self.name} is back after {time.monotonic() - begun:.1f} s")


def supervise(
    watched: Sequence[Watched], *, until: Callable[[], bool], sleep: Callable[[float], None] = time.sleep
) -> None:
    """Keep the parts running until told to stop, or until a signal's handler raises."""
    while not until():
        for one in watched:
            one.look(sleep)
        sleep(LOOK_EVERY_S)
