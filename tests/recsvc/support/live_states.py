"""Live states on disk, and what is in them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from recsvc.live_state.environment import DATABASES
from recsvc.live_state.profile import NO_STARS, Row
from recsvc.live_state.store import LiveStore

NOW_MS: Final = 1_764_500_000_000
HOUR: Final = NOW_MS // 3_600_000
TOPIC: Final = "feed.interactions.v1"
PLACES: Final = {(TOPIC, 0): (120, NOW_MS), (TOPIC, 1): (80, NOW_MS - 5), ("recsvc.profile-updates.v1", 0): (7, NOW_MS)}
READABLE: Final = {partition: (0, offset + 10) for partition, (offset, _) in PLACES.items()}
CLUSTER: Final = "MkU3OEVBNTcwNTJENDM2Qk"


def row(video: str, at_ms: int = NOW_MS, *, watch_ms: int = 3_000, stars: float = NO_STARS) -> Row:
    """Return an interaction: a watch."""
    return video, 1, at_ms, watch_ms, stars


def users(count: int, *, rows: int = 3) -> dict[str, list[Row]]:
    """Return users with interactions in some hours."""
    return {
        f"u{user}": [row(f"v{user * 7 % 50}-{place}", NOW_MS - place * 3_600_000 - user) for place in range(rows)]
        for user in range(count)
    }


def live_state(
    folder: Path,
    told: Mapping[str, Iterable[Row]],
    *,
    places: Mapping[tuple[str, int], tuple[int, int]] = PLACES,
    marks: Mapping[bytes, int] | None = None,
) -> LiveStore:
    """Return a live state that holds this, and counts of two videos."""
    live = LiveStore(folder)
    with live.turn():
        live.make_current(live.create())
    with live.writing() as batch:
        for user, rows in told.items():
            batch.learn(user, rows, told_ms=NOW_MS)
        batch.count({(HOUR, "v1"): 0.5, (HOUR - 1, "v2"): 2.0})
        for mark, at_ms in (marks or {}).items():
            batch.forget(mark, at_ms)
        for (topic, partition), (offset, at_ms) in places.items():
            batch.advance(topic, partition, offset, at_ms)
    return live


def contents(live: LiveStore) -> dict[str, dict[bytes, bytes]]:
    """Return all records by database; empty where no environment is current."""
    environment = live.environment()
    if environment is None:
        return {}
    with environment.begin() as transaction:
        return {
            name: {bytes(key): bytes(value) for key, value in transaction.cursor(db=environment[name])}
            for name in DATABASES
        }
