"""What breaks the system: the form that every nemesis has."""

import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Final

from tests.chaos.system.cluster import Cluster

STOP_S: Final = 20.0


class Nemesis(ABC):
    """Breaks one thing, and heals it again. To add one, write a class and name it in `tests/chaos/nemeses/kinds.py`.

    Attributes:
        name: A few words by which it is chosen; its class's docstring says more.
        moves: Whether clients have to turn to another bridge meanwhile.
        spares_pages: Whether pages have to stay personal while it lasts, as it does not touch what makes them so.
        ends: Servers that it ends or hangs itself: what happens to these is no fault.
        findings: What it found that is wrong.
    """

    name: ClassVar[str]
    moves: ClassVar[bool] = False
    spares_pages: ClassVar[bool] = True
    ends: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        self.cluster = cluster
        self.rng = rng
        self.findings: list[str] = []

    def missing(self) -> str:
        """Return what it lacks here, or nothing."""
        return ""

    @abstractmethod
    def begin(self) -> None:
        """Break something."""

    def act(self, seconds: float) -> None:
        """Leave it broken for so long, or go on breaking."""
        time.sleep(seconds)

    def end(self) -> None:  # noqa: B027  # many have nothing to do here
        """Heal it."""

    def check(self, patience_s: float) -> None:  # noqa: B027  # as above
        """Wait until all is as it was; AssertionError when it does not become so in time."""

    def clean(self) -> None:  # noqa: B027  # as above
        """Take away what it left, so that the next one is judged by itself."""


class Attack:
    """Does something again and again in threads until told to stop.

    Args:
        deeds: One for each thread; they are not to raise.
        pause_s: Between two times.
    """

    def __init__(self, *deeds: Callable[[], None], pause_s: float = 0.0) -> None:
        self._stopped = threading.Event()
        self._pause_s = pause_s
        self._threads = [threading.Thread(target=self._repeat, args=[deed], daemon=True) for deed in deeds]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Return when all threads have ended."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(STOP_S)

    def _repeat(self, deed: Callable[[], None]) -> None:
        while not self._stopped.is_set():
            deed()
            self._stopped.wait(self._pause_s)
