"""Bounds of the store: by age, by size, and by the number of counts. The oldest entries are dropped first.

They are dropped in steps, each a batch of its own that ends in bounded time: no other writer waits for long.
"""

import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from recsvc.live_state.batch import Batch
from recsvc.live_state.keys import hour_of
from recsvc.live_state.store import LiveStore

STEP_S: Final = 0.03
"""Seconds that a batch may take before it ends; its commit comes on top."""
LOOKS: Final = 32
"""What is dropped between two looks at the clock and at the size."""
MAX_SUMS: Final = 2_000_000
"""Videos by hour that have counts; about 100 bytes each."""
END: Final = 2**32
"""After all hours."""
PATIENCE_S: Final = 10.0
Clock = Callable[[], float]


class Dropped(NamedTuple):
    """The numbers of users and counts that were dropped."""

    old_users: int = 0
    """Users who did nothing since the time up to which the live model's data reach."""
    users: int = 0
    """Users who went for the size of the store; the metric."""
    sums: int = 0
    """Counts of a video in an hour."""


def keep_within(
    store: LiveStore,
    *,
    since_ms: int,
    max_sums: int = MAX_SUMS,
    monotonic: Clock = time.monotonic,
) -> Dropped:
    """Drop users and counts that are too old, then the oldest until the bounds hold; StoreError when that fails.

    Args:
        store: The store, and its bound of bytes.
        since_ms: Users and counts older than the hour of this time go, milliseconds since 1970 UTC.
        max_sums: Counts that may stay.
        monotonic: Clock that tells when a batch is long enough.
    """
    before_hour = hour_of(since_ms)

    def steps(drop: Callable[[Batch], Iterator[object]]) -> int:
        return _in_steps(store, drop, monotonic)

    old_users = steps(lambda batch: batch.drop_oldest_users(before_hour=before_hour))
    old_sums = steps(lambda batch: batch.drop_oldest_sums(before_hour=before_hour))
    more_sums = steps(lambda batch: _while(lambda: batch.sums() > max_sums, batch.drop_oldest_sums(before_hour=END)))
    users = 0
    environment = store.environment()
    if environment is not None:
        most = store.max_bytes // environment.page_bytes()
        users = steps(lambda batch: _while(lambda: batch.used_pages() > most, batch.drop_oldest_users(before_hour=END)))
    return Dropped(old_users, users, old_sums + more_sums)


def drop_marks(store: LiveStore, *, before_ms: int) -> int:
    """Drop the marks of erasures before a time, and return how many; one whose profile was not looked up stays."""
    old = [mark for mark, at_ms, is_applied in store.marks() if is_applied and at_ms < before_ms]
    dropped = 0
    for start in range(0, len(old), LOOKS):
        with store.writing(patience_s=PATIENCE_S) as batch:
            dropped += sum(batch.drop_mark(mark, before_ms=before_ms) for mark in old[start : start + LOOKS])
    return dropped


def _in_steps(store: LiveStore, drop: Callable[[Batch], Iterator[object]], monotonic: Clock) -> int:
    """Have a batch after the other drop things until nothing is left, and return how many went."""
    dropped = 0
    is_over = False
    while not is_over:
        with store.writing(patience_s=PATIENCE_S) as batch:
            until = monotonic() + STEP_S
            is_over = True
            for number, _ in enumerate(drop(batch), start=1):
                dropped += 1
                if number % LOOKS == 0 and monotonic() >= until:
                    is_over = False
                    break
    return dropped


def _while(is_needed: Callable[[], bool], things: Iterator[object]) -> Iterator[object]:
    """Yield as long as it is needed, with a look at each LOOKS things."""
    while is_needed():
        for _ in range(LOOKS):
            one = next(things, None)
            if one is None:
                return
            yield one
