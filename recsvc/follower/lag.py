"""The lag of the store behind the brokers."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from recsvc.follower.topics.gathering import Place
from recsvc.live_state.status import State, Status

FOLLOWING_MS: Final = 5000
"""A store that knows all of so long ago follows."""
SILENT_S: Final = 10.0
"""Seconds without an answer of the brokers after which nothing is known of them."""
GAINS_WITHIN_S: Final = 60.0
"""Seconds within which a store that catches up comes nearer."""


class Lag:
    """Computes the lag from the partitions' ends and from the offsets that the store has reached.

    Args:
        now_ms: Milliseconds since 1970 UTC.
        clock: Seconds, ascending.
    """

    def __init__(self, *, now_ms: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._now_ms = now_ms
        self._clock = clock
        self._ends: dict[Place, int] = {}
        self._asked_ms = 0
        self._answered = -SILENT_S
        self._known_until_ms = 0
        self._ages: deque[tuple[float, int]] = deque()

    def learn(self, ends: Mapping[Place, int], *, asked_ms: int) -> None:
        """Remember the partitions' ends, as the brokers gave them at a time."""
        self._ends, self._asked_ms, self._answered = dict(ends), asked_ms, self._clock()

    def status(self, places: Mapping[Place, tuple[int, int | None]], *, since_ms: int = 0) -> Status:
        """Return the status of the store: its state, its lags, and the time until which it is complete.

        Args:
            places: By partition, the offset after the last record in the store, and when that was written.
            since_ms: What happened before is known by the model, milliseconds since 1970 UTC.
        """
        self._known_until_ms = max(self._known_until_ms, since_ms)
        now_ms = self._now_ms()
        lags = {place: max(0, self._ends.get(place, offset) - offset) for place, (offset, _) in places.items()}
        written = [at_ms for _, at_ms in places.values() if at_ms is not None]
        if self._clock() - self._answered > SILENT_S or not places:
            state, is_gaining = State.BLIND, False
            self._ages.clear()
        else:
            self._advance(places, lags)
            age_ms = now_ms - self._known_until_ms
            state = State.FOLLOWING if age_ms <= FOLLOWING_MS else State.CATCHING_UP
            is_gaining = self._is_gaining(age_ms) or state is State.FOLLOWING
        return Status(
            state=state,
            known_until_ms=self._known_until_ms,
            lags=lags,
            last_record_ms=max(written, default=None),
            at_ms=now_ms,
            is_gaining=is_gaining,
        )

    def _advance(self, places: Mapping[Place, tuple[int, int | None]], lags: Mapping[Place, int]) -> None:
        behind = [places[place][1] for place, records in lags.items() if records]
        if not behind and places.keys() <= self._ends.keys():
            self._known_until_ms = self._asked_ms
        else:
            until_ms = min((at_ms or 0 for at_ms in behind), default=0)
            self._known_until_ms = max(self._known_until_ms, min(until_ms, self._asked_ms))

    def _is_gaining(self, age_ms: int) -> bool:
        """Return whether the store is nearer to now than a minute ago, or does not read for as long yet."""
        now = self._clock()
        self._ages.append((now, age_ms))
        while len(self._ages) > 1 and self._ages[1][0] <= now - GAINS_WITHIN_S:
            self._ages.popleft()
        began, before_ms = self._ages[0]
        return now - began < GAINS_WITHIN_S or age_ms < before_ms
