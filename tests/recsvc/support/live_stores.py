"""Stores of the live state, and what is put into them."""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from recsvc.live_state.environment import DATA
from recsvc.live_state.keys import HOUR_MS
from recsvc.live_state.profile import NO_STARS, Row
from recsvc.live_state.store import LiveStore
from recsvc.live_state.verification import problems
from servicekit.user_fingerprint import user_fingerprint

PAGE_BYTES: Final = 4096


def row(at_ms: int, video: str = "video", kind: int = 1, watch_ms: int = 5, rating: float = NO_STARS) -> Row:
    """Return an interaction."""
    return video, kind, at_ms, watch_ms, rating


def new_store(folder: Path, *, is_synced: bool = False, max_bytes: int = 64 << 20) -> LiveStore:
    """Return a store with an empty environment."""
    store = LiveStore(folder, is_synced=is_synced, max_bytes=max_bytes)
    with store.turn():
        store.make_current(store.create())
    return store


def learn(store: LiveStore, user: str, *moments: int) -> None:
    """Add interactions of these times to a user."""
    with store.writing() as batch:
        batch.learn(user, map(row, moments), told_ms=7)


def fill(store: LiveStore, users: Iterable[int], *, interactions: int = 3) -> None:
    """Add users `user-<number>.`, each a minute after the one before, with a count each."""
    with store.writing() as batch:
        for number in users:
            moments = range(number * 60_000, number * 60_000 + interactions)
            batch.learn(f"user-{number}.", [row(at_ms, f"video-{at_ms}") for at_ms in moments], told_ms=number)
            batch.count({(number * 60_000 // HOUR_MS, f"video-{number}"): 1.0})
            batch.advance("topic", 0, number, number)


def forget(store: LiveStore, user: str, at_ms: int, *, by_name: bool = True) -> None:
    """Forget a user."""
    with store.writing() as batch:
        batch.forget(user_fingerprint(user), at_ms, user_id=user if by_name else None)


def moments(store: LiveStore, user: str) -> list[int]:
    """Return the times of what the store knows of a user."""
    profile = store.known(user).profile
    return [one.at_ms for one in profile] if profile else []


def data_file(store: LiveStore) -> Path:
    """Return the current environment's file."""
    return store.folder / store.current() / DATA


def contents(folder: Path) -> bytes:
    """Return the bytes of all files below a folder."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def found_wrong(store: LiveStore) -> list[str]:
    """Return what is wrong with a copy of the current environment to which nobody writes."""
    with tempfile.TemporaryDirectory() as copy:
        shutil.copy(data_file(store), copy)
        return list(problems(Path(copy)))


def overwrite(path: Path, at: int, content: bytes) -> None:
    """Change bytes of a file in place, as a disk may."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)
