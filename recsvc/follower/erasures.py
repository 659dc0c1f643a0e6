"""Copies erased users between the local store and the list in the model store, in the background."""

import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Final

import structlog

from modelstore.erased_users import ErasedUsers
from recsvc.live_state.batch import NEVER
from recsvc.live_state.environment import ERASURES
from recsvc.live_state.store import LiveStore
from servicekit.process.periodic_thread import PeriodicThread

LOOK_S: Final = 5.0
ALL_EVERY_S: Final = 600.0
"""Seconds after which all marks are compared, also where there are no more than before: a user may ask again."""
STEP: Final = 500
"""Marks of one batch: others write between two."""
PATIENCE_S: Final = 10.0

logger = structlog.get_logger(__name__)


class Erasures:
    """Compares both in a thread: the time of an erasure's call does not grow with the number of erased users.

    Args:
        store: Learns of the list's users; its own marks go to the list.
        listed: The list in the model store.
        now_ms: Milliseconds since 1970 UTC.
        clock: Seconds, ascending.
    """

    def __init__(
        self,
        store: LiveStore,
        listed: ErasedUsers,
        *,
        now_ms: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._listed = listed
        self._now_ms = now_ms
        self._clock = clock
        self._compared: tuple[str, int] | None = None
        self.needed_since_ms = NEVER
        """Marks of the list before this time are no longer learnt: nothing holds those users any more."""
        self._due = 0.0
        self._thread = PeriodicThread(
            "live-erasures", self.look, interval_s=LOOK_S, waits_first=False, on_failure=_report
        )

    def start(self) -> None:
        """Start the thread that compares them."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread that compares them."""
        self._thread.stop()

    def look(self) -> None:
        """Copy the erased users that either lacks from the other; StoreError, or the model store's own error."""
        environment = self._store.environment()
        if environment is None:
            return
        listed = self._listed.marks()
        # Another environment may know fewer than the one before.
        state = (self._store.current(), environment.count(ERASURES))
        if listed is None and state == self._compared and self._clock() < self._due:
            return
        known = {mark: at_ms for mark, at_ms, _ in self._store.marks()}
        if listed is None:
            self._listed.merge(known)
        else:
            self._learn(_news(listed, known))
            if unlisted := dict(_news(known, listed)):
                self._listed.merge(unlisted)
        self._compared = (self._store.current(), environment.count(ERASURES))
        self._due = self._clock() + ALL_EVERY_S

    def _learn(self, news: Iterator[tuple[bytes, int]]) -> None:
        news = ((mark, at_ms) for mark, at_ms in news if at_ms >= self.needed_since_ms)
        while some := [*islice(news, STEP)]:
            now_ms = self._now_ms()
            with self._store.writing(patience_s=PATIENCE_S) as batch:
                for mark, at_ms in some:
                    batch.forget(mark, min(at_ms, now_ms))


def _news(marks: Mapping[bytes, int], known: Mapping[bytes, int]) -> Iterator[tuple[bytes, int]]:
    return ((mark, at_ms) for mark, at_ms in marks.items() if at_ms > known.get(mark, -1))


def _report(error: Exception) -> None:
    logger.warning("live.erasures_not_exchanged", problem=f"{type(error).__name__}: {error}")
