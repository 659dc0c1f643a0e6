"""Stores of live state as a run of recsvc leaves them, and the start that finds them."""

from pathlib import Path

from recsvc.live_state.preparation import (
    close_cleanly,
    prepare,
)
from recsvc.live_state.store import LiveStore
from tests.recsvc.support.live_stores import data_file, fill, learn, moments

USERS = range(1000)


def store_of(folder: Path, *, is_synced: bool = False) -> LiveStore:
    return LiveStore(folder, is_synced=is_synced, max_bytes=64 << 20)


def left(folder: Path, *, is_clean: bool = True, is_synced: bool = False, boot: str = "boot") -> Path:
    """Leave a store, and return its file."""
    store = store_of(folder, is_synced=is_synced)
    assert not prepare(store, session="first", boot=boot)
    fill(store, USERS)
    if is_clean:
        close_cleanly(store, session="first", boot=boot)
    return data_file(store)


def is_found(folder: Path, *, boot: str = "boot", is_synced: bool = False, session: str = "second") -> bool:
    """Start, and return whether what was left is there."""
    store = store_of(folder, is_synced=is_synced)
    has_progress = prepare(store, session=session, boot=boot)
    assert has_progress == bool(moments(store, "user-7."))
    assert has_progress == bool(store.progress())
    assert not store.damage.is_reported
    learn(store, "after", 1)
    assert moments(store, "after") == [1]
    assert store.names() == [store.current()]
    return has_progress
