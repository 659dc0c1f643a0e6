"""The connections of this process's server, found among its open files: gRPC has no call that ends them at once."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from os import dup
from pathlib import Path
from stat import S_ISSOCK
from typing import Final

_FILES: Final = Path("/dev/fd")
"""Names of the open files, on Linux and macOS."""


def end_connections(port: int) -> None:
    """Close a port of this process to new connections, and end its open ones.

    Callers see that they are gone, after what has been sent; gRPC's core writes a line on that it accepts none.
    """
    # The listening socket first, as callers connect anew at once.
    for one in sorted(_sockets(port), key=lambda one: not _is_listening(one)):
        with one, suppress(OSError):  # the caller may have ended it
            one.shutdown(socket.SHUT_RDWR)


def _sockets(port: int) -> Iterator[socket.socket]:
    for name in list(_FILES.iterdir()):
        with suppress(OSError):  # it has been closed by now
            if S_ISSOCK(name.stat().st_mode):
                found = socket.socket(fileno=dup(int(name.name)))
                if _is_of(found, port):
                    yield found
                else:
                    found.close()


def _is_of(one: socket.socket, port: int) -> bool:
    return bool(one.family in {socket.AF_INET, socket.AF_INET6} and one.getsockname()[1] == port)


def _is_listening(one: socket.socket) -> bool:
    return bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
