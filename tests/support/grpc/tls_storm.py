"""Many handshakes at once with a server in a process of its own, while its certificate is renewed again and again.

`python -m tests.support.grpc.tls_storm direct|plain|asyncio <folder>` is that server: it prints its port.
"""

import asyncio
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from servicekit.credentials.server_identity import ServerIdentity
from servicekit.credentials.tls_files import TlsFiles
from servicekit.server.grpc_server import AioServer
from tests.support.certificates import Authority
from tests.support.grpc import thread_servers
from tests.support.polling import wait_for

ROOT: Final = Path(__file__).parents[3]
KINDS: Final = (*thread_servers.KINDS, "asyncio")
NAME: Final = "server"
INTERVAL_S: Final = 0.05
_GREETING: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"


@dataclass(slots=True)
class Storm:
    """What became of the handshakes."""

    done: int = 0
    failed: list[str] = field(default_factory=list)
    renewals_shown: int = 0
    status: int | None = None
    """How the server ended; None where it lives."""
    seconds: float = 0.0


def storm(kind: str, folder: Path, *, handshakes: int, renewals: int, at_once: int = 8) -> Storm:
    """Make so many whole connections, with renewals spread over them, each of which must show within a while."""
    authority = Authority(folder, "authority")
    files = authority.issue(NAME)
    caller = _caller(authority.issue("caller"))
    command = [sys.executable, "-m", "tests.support.grpc.tls_storm", kind, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout
        port = int(server.stdout.readline())
        outcome, began = Storm(), time.monotonic()
        try:
            with ThreadPoolExecutor(at_once) as pool:
                visits = [
                    pool.submit(_connections, port, caller, outcome, handshakes // at_once) for _ in range(at_once)
                ]
                for turn in range(renewals):
                    due = handshakes * turn // renewals
                    wait_for(lambda due=due: outcome.done + len(outcome.failed) >= due, timeout_s=600)  # type: ignore[misc]
                    renew(authority, files)
                    shown = ssl.PEM_cert_to_DER_cert(files.certificate.read_text())
                    wait_for(lambda shown=shown: certificate(port, caller) == shown, what="the new one is shown")  # type: ignore[misc]
                    outcome.renewals_shown += 1
                for one in visits:
                    one.result()
            outcome.status = server.poll()
            outcome.seconds = time.monotonic() - began
        finally:
            server.kill()
    return outcome


def renew(authority: Authority, files: TlsFiles) -> None:
    """Put a new certificate and key in the place of the old ones, one file after the other."""
    new = authority.issue("renewed")
    new.key.replace(files.key)
    new.certificate.replace(files.certificate)


def certificate(port: int, caller: ssl.SSLContext) -> bytes:
    """Return the certificate that a new connection is shown, empty where there is no connection."""
    try:
        with caller.wrap_socket(socket.create_connection(("127.0.0.1", port), 30), server_hostname="localhost") as one:
            return one.getpeercert(binary_form=True) or b""
    except OSError:
        return b""


def _caller(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(files.authority)
    context.load_cert_chain(files.certificate, files.key)
    context.set_alpn_protocols(["h2"])
    return context


_COUNTING: Final = threading.Lock()


def _connections(port: int, caller: ssl.SSLContext, outcome: Storm, count: int) -> None:
    for _ in range(count):
        try:
            raw = socket.create_connection(("127.0.0.1", port), 30)
            with closing(caller.wrap_socket(raw, server_hostname="localhost")) as one:
                one.sendall(_GREETING)
                if not one.recv(100):
                    raise ConnectionResetError("the server hung up")
            with _COUNTING:
                outcome.done += 1
        except OSError as error:
            with _COUNTING:
                outcome.failed.append(repr(error))


async def _serve_aio(identity: ServerIdentity) -> None:
    server = AioServer([])
    print(await server.start("127.0.0.1:0", identity), flush=True)  # noqa: T201  # for who started it
    await asyncio.Event().wait()


def _main(arguments: Sequence[str]) -> None:
    kind, folder = arguments[0], Path(arguments[1])
    files = TlsFiles(certificate=folder / f"{NAME}.crt", key=folder / f"{NAME}.key", authority=folder / "authority.pem")
    identity = ServerIdentity(files, interval_s=INTERVAL_S)
    if kind == "asyncio":
        asyncio.run(_serve_aio(identity))
    else:
        server = thread_servers.KINDS[kind]([], threads=2)
        print(server.start("127.0.0.1:0", identity), flush=True)  # noqa: T201  # for who started it
        threading.Event().wait()


if __name__ == "__main__":
    _main(sys.argv[1:])
