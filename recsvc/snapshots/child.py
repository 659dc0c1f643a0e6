"""Has a process of its own, of the lowest priority, take the snapshot: `python -m recsvc.snapshots.child`.

A thread of low priority would hold the interpreter while it waits for a core, and the follower with it.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError

from recsvc.live_state.store import LiveStore
from recsvc.snapshots.snapshot import Snapshot, SnapshotError
from recsvc.snapshots.snapshots import Snapshots
from servicekit.storage.object_store import open_store
from servicekit.telemetry.logs import configure_logs

LOWEST_PRIORITY: Final = 19
LIMIT_S: Final = 900.0
"""Seconds that it may take, the upload included: as long as its claim holds."""


class Outcome(BaseModel):
    """The result that the process reports."""

    snapshot: Snapshot | None = None
    """None where none was due, or somebody else takes it."""
    reason: str = ""
    """Of a `SnapshotError`."""
    problem: str = ""


def take_in_subprocess(
    live: LiveStore, *, store_url: str, cluster_id: str, limit_s: float = LIMIT_S
) -> Snapshot | None:
    """Have this hour's snapshot taken, as `Snapshots.take` does; SnapshotError when there can be none now.

    Args:
        live: The live state, of a follower that has caught up.
        store_url: Of the model store.
        cluster_id: Of the Kafka cluster that it follows.
        limit_s: Seconds that it may take.
    """
    arguments = [str(live.folder), str(live.max_bytes), str(int(live.is_synced)), store_url, cluster_id]
    command = [sys.executable, "-m", __name__, *arguments]
    # The other process ends when its standard input does, so with this one. A group of its own: Ctrl-C is for this one.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0) as process:
        try:
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise SnapshotError("time", f"the snapshot was not taken within {limit_s:.0f} s") from None
        assert process.stdout  # noqa: S101  # a pipe
        answer = process.stdout.read()
    try:
        outcome = Outcome.model_validate_json(answer)
    except ValidationError:
        raise SnapshotError("process", f"the process that takes the snapshot ended with status {status}") from None
    if outcome.reason:
        raise SnapshotError(outcome.reason, outcome.problem)
    return outcome.snapshot


def main() -> None:
    """Take the snapshot and write an `Outcome` to standard output; end with the process that holds standard input."""
    configure_logs("info", service="recsvc")
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    folder, max_bytes, is_synced, url, cluster_id = sys.argv[1:]
    live = LiveStore(Path(folder), max_bytes=int(max_bytes), is_synced=is_synced == "1")
    live.environment()  # opened in the turn of writers, who would wait for a process of low priority
    os.nice(LOWEST_PRIORITY)
    try:
        outcome = Outcome(snapshot=Snapshots(open_store(url)).take(live, cluster_id=cluster_id))
    except SnapshotError as error:
        outcome = Outcome(reason=error.reason, problem=str(error))
    except OSError as error:
        outcome = Outcome(reason="store", problem=f"{type(error).__name__}: {error}")
    sys.stdout.write(outcome.model_dump_json())


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    main()
