"""The store of the live state: its size, and what writing, looking up, checking and compacting cost, in CPU time.

10 million interactions of a million users, each as likely as another one, with 20,000 videos of which few are watched
by many; batches of 2,000, as a follower reads them. The size of a user and of an interaction is what least squares
make of three sizes. Checks and compactions are of copies of the store at these sizes, and of one of a GiB, to which
users are added while it is compacted.
"""

import resource
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.machine import MEBIBYTE
from benchmarks.report import Row
from recsvc.live_state.compaction import compact
from recsvc.live_state.environment import DATA, PROFILES
from recsvc.live_state.keys import HOUR_MS, hour_of
from recsvc.live_state.profile import NO_STARS
from recsvc.live_state.profile import Row as Told
from recsvc.live_state.store import LiveStore
from recsvc.live_state.verification import Verdict, check, digest

USERS: Final = 1_000_000
VIDEOS: Final = 20_000
CHECKPOINTS: Final = (1_000_000, 3_000_000, 10_000_000)
BATCH: Final = 2000
LOOKED_UP: Final = (0, 50, 1000)
LOOKUPS: Final = 20_000
BEGIN_MS: Final = 490_000 * HOUR_MS
DAY_MS: Final = 24 * HOUR_MS
ZIPF: Final = 1.2
LARGE_BYTES: Final = 1 << 30
EACH: Final = 100
"""Interactions of each user of the large store."""
MAX_BYTES: Final = 8 << 30
SEED: Final = 2025


def run() -> Mapping[str, list[Row]]:
    """Return the tables."""
    with tempfile.TemporaryDirectory(prefix="bench-live-state-") as name:
        folder = Path(name)
        store = _new(folder / "store")
        sizes, upkeep = [], []
        for size in _fill(store):
            sizes.append(size)
            upkeep.append(_upkeep(_copied(store, folder / "copy")))
            shutil.rmtree(folder / "copy")
        upkeep.append(_upkeep(_large(folder / "large")))
        return {
            "writing": sizes,
            "size": [_slopes(sizes)],
            "lookups": [_lookups(store, count) for count in LOOKED_UP],
            "checks and compactions": upkeep,
        }


def _new(folder: Path) -> LiveStore:
    store = LiveStore(folder, max_bytes=MAX_BYTES, is_synced=False)
    with store.turn():
        store.make_current(store.create())
    return store


def _fill(store: LiveStore) -> Iterator[Row]:
    """Write interactions, and yield what it took up to each size."""
    chance = np.random.default_rng(SEED)
    told, spent = 0, 0.0
    for most in CHECKPOINTS:
        begin_told, begin = told, spent
        while told < most:
            users = chance.integers(0, USERS, BATCH).tolist()
            videos = (chance.zipf(ZIPF, BATCH) % VIDEOS).tolist()
            watched = chance.integers(0, 60_000, BATCH).tolist()
            at_ms = BEGIN_MS + told * DAY_MS // CHECKPOINTS[-1]
            spent += _cpu(lambda: _write(store, users, videos, watched, at_ms))  # noqa: B023  # called at once
            told += BATCH
        environment = store.environment()
        assert environment  # noqa: S101  # made above
        with environment.begin() as transaction:
            known = transaction.stat(environment[PROFILES])["entries"]
        yield {
            "interactions": told,
            "users": known,
            "used, bytes": environment.used_bytes(),
            "file, MiB": round(environment.file_bytes() / MEBIBYTE),
            "interactions a second of CPU": round((told - begin_told) / (spent - begin)),
        }


def _write(store: LiveStore, users: list[int], videos: list[int], watched: list[int], at_ms: int) -> None:
    by_user: dict[str, list[Told]] = defaultdict(list)
    sums: dict[tuple[int, str], float] = defaultdict(float)
    for place, (user, video, watch_ms) in enumerate(zip(users, videos, watched, strict=True)):
        name = f"video-{video:07}"
        by_user[f"user-{user:08}"].append((name, 1, at_ms + place, watch_ms, NO_STARS))
        sums[hour_of(at_ms), name] += 1.0
    with store.writing() as batch:
        for user_id, rows in by_user.items():
            batch.learn(user_id, rows, told_ms=at_ms)
        batch.count(sums)
        batch.advance("feed.interactions.v1", 0, at_ms, at_ms)


def _slopes(sizes: list[Row]) -> Row:
    """Return bytes of a user and of an interaction by least squares."""
    counts = np.array([[int(row["users"]), int(row["interactions"])] for row in sizes])
    used = np.array([int(row["used, bytes"]) for row in sizes])
    (user, interaction), *_ = np.linalg.lstsq(counts, used, rcond=None)
    day = (10e6 * user + 86e6 * interaction) / (1 << 30)
    return {
        "a user, bytes": round(user.item()),
        "an interaction, bytes": round(interaction.item(), 1),
        "86 million of 10 million users, GiB": round(day.item(), 2),
    }


def _lookups(store: LiveStore, count: int) -> Row:
    user = f"with-{count}"
    rows = [(f"video-{number:07}", 1, BEGIN_MS + number, 5, NO_STARS) for number in range(count)]
    with store.writing() as batch:
        batch.learn(user, rows, told_ms=1)

    def looked() -> None:
        for _ in range(LOOKUPS):
            store.look(user)

    def known() -> None:
        for _ in range(LOOKUPS):
            store.known(user)

    return {
        "interactions": count,
        "look, µs": round(_cpu(looked) / LOOKUPS * 1e6, 2),
        "with checksums, µs": round(_cpu(known) / LOOKUPS * 1e6, 2),
    }


def _copied(store: LiveStore, folder: Path) -> LiveStore:
    copy = LiveStore(folder, max_bytes=MAX_BYTES, is_synced=False)
    shutil.copytree(store.folder / store.current(), folder / store.current())
    with copy.turn():
        copy.make_current(store.current())
    return copy


def _large(folder: Path) -> LiveStore:
    store = _new(folder)
    environment = store.environment()
    assert environment  # noqa: S101  # made above
    number = 0
    while environment.file_bytes() < LARGE_BYTES:
        _add(store, number)
        number += 1
    return store


def _add(store: LiveStore, number: int) -> None:
    rows = [(f"video-{one:07}", 1, BEGIN_MS + one, 5, NO_STARS) for one in range(EACH)]
    with store.writing() as batch:
        for place in range(BATCH // 4):
            batch.learn(f"{place:03}-{number:06}", rows, told_ms=1)


def _upkeep(store: LiveStore) -> Row:
    folder = store.folder / store.current()
    size = (folder / DATA).stat().st_size
    hashing = _cpu(lambda: digest(folder))
    before = _of_children()
    verdict, why = check(folder)
    checking = _of_children() - before
    assert verdict is Verdict.SOUND, why  # noqa: S101  # else nothing was measured
    added = iter(range(10**6, 10**9))
    wait_s = 0.0

    def compacted() -> None:
        nonlocal wait_s
        wait_s = compact(store, pause=lambda: _add_few(store, next(added))).wait_s

    compacting = _cpu(compacted)
    return {
        "file, MiB": round(size / MEBIBYTE),
        "digest, s": round(hashing, 2),
        "check, s": round(checking, 1),
        "compaction, s": round(compacting, 1),
        "writers wait, ms (clock)": round(wait_s * 1000, 1),
    }


def _add_few(store: LiveStore, number: int) -> None:
    with store.writing(patience_s=60) as batch:
        for place in range(10):
            batch.learn(f"later-{number + place}", [("video-0000001", 1, BEGIN_MS, 5, NO_STARS)], told_ms=1)


def _cpu(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
