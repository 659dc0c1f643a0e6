"""Waits until an address is free to listen on, and names the process that holds it otherwise.

The ports that the programs have by default lie among those that Linux gives to the near end of any connection. Such a
connection ends; a server stays.
"""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from servicekit.process.ports import is_free

WAIT_S: Final = 10.0
LOOK_S: Final = 0.25
_TABLES: Final = ("/proc/net/tcp", "/proc/net/tcp6")
_LISTENS: Final = "0A"


class AddressTakenError(OSError):
    """Another process holds the address."""


def wait_until_free(
    address: str,
    *,
    timeout_s: float = WAIT_S,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Wait until a server can listen on `host:port`; AddressTakenError names the holder when the time is over.

    A server that listens there is not waited for. What is no `host:port`, or any port, is left to whoever listens.
    """
    host, _, number = address.rpartition(":")
    if not host or not number.isdecimal() or not 0 < (port := int(number)) < 65_536:
        return
    deadline = clock() + timeout_s
    while not is_free(host.strip("[]"), port):
        if is_listened_on(port) or clock() >= deadline:
            raise AddressTakenError(taken(address))
        sleep(LOOK_S)


@contextmanager
def held(address: str) -> Iterator[None]:
    """Prevent the address from becoming the near end of a connection while the block prepares its listener."""
    host, _, number = address.rpartition(":")
    host = host.strip("[]")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as holder_of_it:
        holder_of_it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # who listens there later says what is in the way
            holder_of_it.bind((host, int(number)))
        yield


@contextmanager
def naming_the_holder(address: str) -> Iterator[None]:
    """Add the holder of the address to errors of listening."""
    try:
        yield
    except RuntimeError as error:
        if "bind" not in str(error):
            raise
        raise AddressTakenError(taken(address)) from None


def taken(address: str) -> str:
    """Return one line that names the holder of an address."""
    port = int(address.rpartition(":")[2])
    who = holder(port)
    return f"Failed to bind to address {address}: it is in use" + (f" by {who}" if who else "")


def holder(port: int) -> str:
    """Return the holder of a TCP port of this machine, such as "python -m recsvc (pid 12)"; empty if it is hidden."""
    sockets = {inode for _, inode in _sockets(port)} - {"0"}
    for process in Path("/proc").glob("[0-9]*"):
        if sockets & {_inode(one) for one in _files(process)}:
            return f"{_command(process)} (pid {process.name})"
    return ""


def is_listened_on(port: int) -> bool:
    """Return whether a server listens on a TCP port of this machine, as far as the kernel shows."""
    return any(state == _LISTENS for state, _ in _sockets(port))


def _sockets(port: int) -> list[tuple[str, str]]:
    """Return state and inode of every socket with this port at its near end; none without /proc."""
    found = []
    for table in _TABLES:
        try:
            rows = [line.split() for line in Path(table).read_text(encoding="ascii").splitlines()[1:]]
        except OSError:
            continue
        found += [(row[3], row[9]) for row in rows if int(row[1].rpartition(":")[2], 16) == port]
    return found


def _files(process: Path) -> list[Path]:
    try:
        return [*(process / "fd").iterdir()]
    except OSError:  # another user's, or it has ended
        return []


def _inode(file: Path) -> str:
    """Return the inode of an open socket, empty for other files."""
    try:
        target = str(file.readlink())
    except OSError:  # it was closed meanwhile
        return ""
    return target.removeprefix("socket:[").removesuffix("]") if target.startswith("socket:") else ""


def _command(process: Path) -> str:
    """Return the program with its first arguments: all of them may hold secrets."""
    try:
        parts = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "a process"
    return " ".join([Path(parts[0]).name, *parts[1:3]]).strip() or "a process"
