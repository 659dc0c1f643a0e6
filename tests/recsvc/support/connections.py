"""Connections to the processes that share a port, and which process took which."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.recsvc.support.calls import Client


def accepted(pid: int, port: int) -> int:
    """Return how many connections to a port a process has accepted."""
    own = {str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir() if one.is_symlink()}
    tables = [Path(f"/proc/net/{name}").read_text(encoding="utf-8").splitlines()[1:] for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    return sum(f":{port:04X}" in row[1] and row[3] == "01" and f"socket:[{row[9]}]" in own for row in rows)


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]


@contextmanager
def one_to_each(supervisor: int, port: int, count: int = 2) -> Iterator[dict[int, Client]]:
    """Connect until each of so many workers has a connection; yield one of each by its process."""
    found: dict[int, Client] = {}
    with ExitStack() as stack:
        while len(found) < count:
            before = {pid: accepted(pid, port) for pid in children(supervisor)}
            client = stack.enter_context(Client.to(port))
            client.status()
            found |= {pid: client for pid, held in before.items() if accepted(pid, port) > held}
        yield found
