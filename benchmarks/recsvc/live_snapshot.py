"""Snapshots of the live state: taking and restoring 10 million interactions by 1 million users.

The live state is filled user by user; then processes of their own take a snapshot into a folder store and restore it.
"""

import random
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from benchmarks.report import Row
from recsvc.live_state.profile import NO_STARS
from recsvc.live_state.profile import Row as Told
from recsvc.live_state.store import LiveStore
from recsvc.snapshots.snapshots import Snapshots
from servicekit.process.periodic_thread import PeriodicThread
from servicekit.storage.object_store import FileStore

USERS: Final = 1_000_000
EACH: Final = 10
VIDEOS: Final = 20_000
HOURS: Final = 24
TOGETHER: Final = 10_000
MIB: Final = 1 << 20
CLUSTER: Final = "benchmark"
TOPIC: Final = "feed.interactions.v1"
PLACES: Final = {(TOPIC, partition): 10**9 for partition in range(6)}
SEED: Final = 2025


def run() -> Mapping[str, list[Row]]:
    """Return the tables."""
    folder = Path(tempfile.mkdtemp(prefix="bench-snapshot-"))
    try:
        _measured(_fill, folder)
        taking, restoring = _measured(_take, folder), _measured(_restore, folder)
        packed = sum(path.stat().st_size for path in (folder / "models").rglob("*") if path.is_file())
        return {
            f"{USERS:,} users, {USERS * EACH:,} interactions": [
                {"what": "take", **taking},
                {"what": "restore", **restoring},
            ],
            "bytes": [
                {"what": "live state, filled one by one", "MiB": _mib(folder / "one")},
                {"what": "snapshot", "MiB": round(packed / MIB)},
                {"what": "live state, restored", "MiB": _mib(folder / "two")},
            ],
        }
    finally:
        shutil.rmtree(folder)


def _fill(folder: Path) -> None:
    chance, now_ms = random.Random(SEED), time.time_ns() // 1_000_000  # made-up traffic
    live = LiveStore(folder / "one", is_synced=False)
    with live.turn():
        live.make_current(live.create())
    users = list(range(USERS))
    chance.shuffle(users)
    for start in range(0, USERS, TOGETHER):
        with live.writing() as batch:
            for user in users[start : start + TOGETHER]:
                batch.learn(f"user-{user}", _told(chance, now_ms), told_ms=now_ms)
    hour = now_ms // 3_600_000
    with live.writing() as batch:
        batch.count({(hour - ago, f"video-{video}"): 1.5 for ago in range(HOURS) for video in range(0, VIDEOS, 2)})
        for (topic, partition), offset in PLACES.items():
            batch.advance(topic, partition, offset, now_ms)


def _told(chance: random.Random, now_ms: int) -> list[Told]:
    day_ms = HOURS * 3_600_000
    return [
        (
            f"video-{int(VIDEOS * chance.random() ** 2)}",
            chance.randrange(5),
            now_ms - chance.randrange(day_ms),
            chance.randrange(60_000),
            NO_STARS,
        )
        for _ in range(EACH)
    ]


def _take(folder: Path) -> None:
    live = LiveStore(folder / "one", is_synced=False)
    if Snapshots(FileStore(folder / "models")).take(live, cluster_id=CLUSTER) is None:
        raise RuntimeError("no snapshot was taken")


def _restore(folder: Path) -> None:
    live = LiveStore(folder / "two", is_synced=False)
    readable = {partition: (0, offset) for partition, offset in PLACES.items()}
    snapshots = Snapshots(FileStore(folder / "models"))
    if snapshots.restore(live, cluster_id=CLUSTER, readable=readable, marks={}) is None:
        raise RuntimeError(f"nothing was restored: {snapshots.refused}")


def _measured(task: Callable[[Path], None], folder: Path) -> Row:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_measure, task, folder).result()


def _measure(task: Callable[[Path], None], folder: Path) -> Row:
    peaks = [before := _anonymous_mib()]
    watch = PeriodicThread("memory", lambda: peaks.append(_anonymous_mib()), interval_s=0.05)
    watch.start()
    begin, cpu = time.monotonic(), time.process_time()
    task(folder)
    wall_s, cpu_s = time.monotonic() - begin, time.process_time() - cpu
    watch.stop()
    return {"s": f"{wall_s:.1f}", "CPU s": f"{cpu_s:.1f}", "MiB before": before, "peak MiB": max(peaks)}


def _anonymous_mib() -> int:
    """Return what this process takes besides mapped files, whose pages the kernel takes back."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1024


def _mib(folder: Path) -> int:
    return round(sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file()) / MIB)
