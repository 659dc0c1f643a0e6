"""Downloads the parts of a snapshot one after the other, each while the one before is looked at."""

from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path

from recsvc.snapshots.blocks import part_name
from recsvc.snapshots.kept_snapshots import key_of
from recsvc.snapshots.snapshot import Snapshot, SnapshotError
from servicekit.storage.object_store import ObjectStore


def downloaded(
    store: ObjectStore, snapshot: Snapshot, folder: Path, *, seconds_left: Callable[[], float]
) -> Generator[Path]:
    """Yield the parts, each on disk until the next one is asked for; SnapshotError when the time is over."""

    def download(number: int) -> Path:
        path = folder / part_name(number)
        store.download(key_of(snapshot.name, path.name), path)
        return path

    executor = ThreadPoolExecutor(1, "snapshot")
    try:
        coming = executor.submit(download, 0)
        for number in range(len(snapshot.parts)):
            path = _within(coming, seconds_left())
            if number + 1 < len(snapshot.parts):
                coming = executor.submit(download, number + 1)
            yield path
            path.unlink()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _within(coming: "Future[Path]", seconds: float) -> Path:
    try:
        if seconds > 0:
            return coming.result(seconds)
    except FutureTimeoutError:
        pass
    raise SnapshotError("time", "the snapshot takes too long to download")
