"""Stores of live state for tests, as the follower prepares them."""

from collections.abc import Iterable
from pathlib import Path

from recsvc.domain.interaction import Interaction, value
from recsvc.live_state.keys import hour_of
from recsvc.live_state.store import LiveStore
from recsvc.local_files.folders import LIVE_STATE


def prepared(folder: Path, *, is_synced: bool = False) -> LiveStore:
    """Return the store of a folder, with an environment that is current: the one there is, or else an empty one."""
    store = LiveStore(folder, is_synced=is_synced)
    if not store.current():
        with store.turn():
            store.make_current(store.create())
    store.environment()  # as a worker does when it starts; pages never wait for it
    return store


def prepared_beside(cache: Path) -> LiveStore:
    """Return the store of a server's cache, prepared."""
    return prepared(cache / LIVE_STATE)


def count(store: LiveStore, done: Iterable[Interaction]) -> None:
    """Count interactions, as the follower does for a catalogue without durations."""
    sums: dict[tuple[int, str], float] = {}
    for one in done:
        worth = value(one, -1)
        if worth > 0:
            place = (hour_of(one.at_ms), one.video_id)
            sums[place] = sums.get(place, 0.0) + worth
    with store.writing() as batch:
        batch.count(sums)
