"""Opens a TLS handshake of a process with its own server, and leaves it open after the server's certificate."""

import os
import socket
import ssl
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

TIMEOUT_S: Final = 10.0
_ANY: Final = {"": ("127.0.0.1",), "0.0.0.0": ("127.0.0.1",), "::": ("::1", "127.0.0.1")}  # noqa: S104  # not to listen
_CHUNK: Final = 65_536
_MAPPED: Final = "::ffff:"


class VisitError(Exception):
    """The process cannot reach its own server."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A handshake that waits for the client's answer, which never comes."""

    certificate: bytes
    """The server's, DER."""
    connection: socket.socket

    def close(self) -> None:
        """Abort the handshake."""
        self.connection.close()


def visit(address: str, port: int) -> Visit:
    """Begin a handshake with the server of this process at `host:port` or `unix:path`.

    Other processes may share the port: connections that the kernel gives to them are given up.
    """
    deadline = time.monotonic() + TIMEOUT_S
    problem: Exception | str = "other processes got all connections"
    while (left := deadline - time.monotonic()) > 0:
        try:
            connection = _connect(address, port, left)
        except OSError as error:
            raise VisitError(f"no connection to {address}: {error}") from None
        try:
            certificate = _shown(connection, deadline)
        except OSError as error:
            problem = error
            connection.close()
            time.sleep(0.01)
            continue
        if connection.family is socket.AF_UNIX or _is_own(connection):
            return Visit(certificate, connection)
        connection.close()
    raise VisitError(f"no handshake with {address}: {problem}")


def _connect(address: str, port: int, timeout_s: float) -> socket.socket:
    if address.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout_s)
        connection.connect(address.removeprefix("unix:").removeprefix("//"))
        return connection
    host = address.rpartition(":")[0].strip("[]")
    problem = OSError("no address")
    for one in _ANY.get(host, (host,)):
        try:
            return socket.create_connection((one, port), timeout_s)
        except OSError as error:
            problem = error
    raise problem


def _shown(connection: socket.socket, deadline: float) -> bytes:
    """Return the certificate that the server shows; OSError if none comes in time."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # whatever it shows is the answer
    context.minimum_version = ssl.TLSVersion.TLSv1_3  # its client knows the certificate before it answers
    context.set_alpn_protocols(["h2"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing)
    asked = False
    while True:
        try:
            client.do_handshake()
            break
        except ssl.SSLWantReadError:
            if not asked:
                connection.sendall(outgoing.read())
                asked = True
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            received = connection.recv(_CHUNK)
            if not received:
                raise ConnectionResetError("the server hung up") from None
            incoming.write(received)
    return client.getpeercert(binary_form=True) or b""


def _is_own(connection: socket.socket) -> bool:
    """Return whether the other end belongs to this process as well."""
    ends = (_place(connection.getpeername()), _place(connection.getsockname()))
    return ends in _ends()


def _ends() -> Iterator[tuple[Any, Any]]:
    """Yield the near and the far end of each connection of this process."""
    for number in Path("/dev/fd").iterdir():
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(number.name)).st_mode):
                with socket.socket(fileno=os.dup(int(number.name))) as one:
                    if one.family is not socket.AF_UNIX:
                        yield _place(one.getsockname()), _place(one.getpeername())


def _place(name: Any) -> tuple[str, int]:
    return str(name[0]).removeprefix(_MAPPED), name[1]
