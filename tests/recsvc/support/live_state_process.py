"""`python -m tests.recsvc.support.live_state_process WHAT FOLDER …`: another process that uses a store.

It writes a line when it has begun, and goes on until it is killed or its standard input ends.
"""

import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from recsvc.live_state.compaction import compact
from recsvc.live_state.store import LiveStore, StoreError
from tests.recsvc.support.live_stores import moments, row

PATIENCE_S = 60.0


def tell(text: object) -> None:
    """Write a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def write(store: LiveStore, user: str) -> None:
    """Add an interaction after the other, and tell the last one that was committed."""
    for at_ms in count(1):
        with store.writing(patience_s=PATIENCE_S) as batch:
            batch.learn(user, [row(at_ms)], told_ms=at_ms)
            batch.count({(0, user): 1.0})
        tell(at_ms)


def read(store: LiveStore, *users: str) -> None:
    """Read without end; end with what is wrong: interactions that are gone again, or are not all there."""
    before = dict.fromkeys(users, 0)
    store.environment()
    tell("reads")
    while True:
        for user in users:
            found = moments(store, user) or [0]
            if found != list(range(found[0], found[-1] + 1)) or found[-1] < before[user]:
                tell(f"{user} had interactions until {before[user]} and has {found}")
                sys.exit(1)
            before[user] = found[-1]


def stay_in_transaction(store: LiveStore) -> None:
    """Die while a batch is open."""
    with store.writing(patience_s=PATIENCE_S) as batch:
        batch.learn("nobody", [row(1)], told_ms=1)
        tell("writes")
        signal.pause()


def stay_in_reading(store: LiveStore) -> None:
    """Die while a read transaction is open."""
    environment = store.environment()
    assert environment
    with environment.begin():
        tell("reads")
        signal.pause()


def fill_disk(store: LiveStore, max_bytes: str) -> None:
    """Write until no file can grow further; tell how many users there are, and what the error says."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(max_bytes), resource.RLIM_INFINITY))
    for number in count():
        try:
            with store.writing() as batch:
                batch.learn(f"user-{number}", map(row, range(1, 100)), told_ms=1)
        except StoreError as error:
            found = [len(moments(store, f"user-{one}")) for one in range(number + 1)]
            assert found == [99] * number + [0]
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            with store.writing() as batch:  # there is room again
                batch.learn(f"user-{number}", map(row, range(1, 100)), told_ms=1)
            tell(f"{number} {store.damage.is_reported} {error}")
            return


def compact_on_full_disk(store: LiveStore, max_bytes: str) -> None:
    """Compact while no file can grow beyond this; tell what the error says."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(max_bytes), resource.RLIM_INFINITY))
    try:
        compact(store)
    except StoreError as error:
        tell(f"{store.damage.is_reported} {error}")


def create_on_full_disk(store: LiveStore, max_bytes: str) -> None:
    """Make environments while no file can grow beyond this; tell what the error says."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(max_bytes), resource.RLIM_INFINITY))
    for _ in range(2):
        try:
            store.create()
        except StoreError as error:
            problem = str(error)
    tell(problem)


def compact_without_end(store: LiveStore) -> None:
    """Put one copy after the other in the place of the store."""
    while True:
        tell(compact(store))


def do(what: str, store: LiveStore, *arguments: str) -> None:
    """Do one of these."""
    known = {
        "write": write,
        "read": read,
        "stay_in_transaction": stay_in_transaction,
        "stay_in_reading": stay_in_reading,
        "fill_disk": fill_disk,
        "compact_on_full_disk": compact_on_full_disk,
        "create_on_full_disk": create_on_full_disk,
        "compact_without_end": compact_without_end,
    }
    known[what](store, *arguments)  # type: ignore[operator]  # each takes its own texts


@contextmanager
def process(what: str, folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run it, and kill it at the end."""
    command = [sys.executable, "-m", __name__, what, str(folder), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as one:
        try:
            yield one
        finally:
            one.kill()


def line_of(one: subprocess.Popen[str]) -> str:
    """Return the next line that a process wrote; an empty text when it has ended."""
    assert one.stdout
    return one.stdout.readline().strip()


def _end_with_parent() -> None:
    sys.stdin.read()
    signal.raise_signal(signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    do(sys.argv[1], LiveStore(Path(sys.argv[2]), is_synced=False, max_bytes=64 << 20), *sys.argv[3:])
