"""Renewed certificates are shown while handshakes come in, and what is relied on of gRPC's core for that."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest
import structlog

from servicekit.credentials.pinned_handshake import VisitError, visit
from servicekit.credentials.server_identity import Pem, ServerIdentity
from servicekit.credentials.tls_files import TlsFiles
from servicekit.process.ports import free_port
from servicekit.server.grpc_server import AioServer
from servicekit.server.thread_server import ThreadServer
from tests.support.certificates import Authority
from tests.support.grpc.tls_storm import KINDS, renew, storm
from tests.support.polling import wait_for

pytestmark = pytest.mark.peer


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def files(authority: Authority) -> TlsFiles:
    return authority.issue("server")


@pytest.fixture
def port(files: TlsFiles) -> Iterator[int]:
    """The port of a server that follows the files."""
    server = ThreadServer([], threads=2)
    yield server.start("127.0.0.1:0", ServerIdentity(files, interval_s=0.02))
    server.drain(0)


def shown(port: int, address: str = "127.0.0.1:0") -> bytes:
    one = visit(address, port)
    one.close()
    return one.certificate


@pytest.mark.parametrize("kind", KINDS)
def test_handshakes_survive_renewals(kind: str, tmp_path: Path) -> None:
    """The core of gRPC ends the process where a configuration is freed under a handshake."""
    found = storm(kind, tmp_path, handshakes=1_600, renewals=8)
    assert (found.status, found.failed, found.done, found.renewals_shown) == (None, [], 1_600, 8)


def test_files_that_do_not_belong_together_are_not_shown(port: int, authority: Authority, files: TlsFiles) -> None:
    before = shown(port)
    new = authority.issue("renewed")
    with structlog.testing.capture_logs() as logged:
        new.certificate.replace(files.certificate)
        wait_for(lambda: "tls.files_unusable" in [one["event"] for one in logged], what="the problem is told")
        assert shown(port) == before
        new.key.replace(files.key)
        wait_for(lambda: shown(port) == Pem.read(files).certificate(), what="the new one is shown")
    assert [one["event"] for one in logged] == ["tls.files_unusable", "tls.renewed"]


def test_files_that_are_none_are_not_shown(port: int, files: TlsFiles) -> None:
    before = shown(port)
    with structlog.testing.capture_logs() as logged:
        files.certificate.write_text("no certificate")
        wait_for(lambda: logged, what="the problem is told")
    assert [one["event"] for one in logged] == ["tls.files_unusable"]
    assert shown(port) == before


async def test_an_asyncio_server_follows_its_files(authority: Authority, files: TlsFiles) -> None:
    server = AioServer([])
    port = await server.start("127.0.0.1:0", ServerIdentity(files, interval_s=0.02))
    renew(authority, files)
    await asyncio.to_thread(wait_for, lambda: shown(port) == Pem.read(files).certificate())
    await server.drain(0)


def test_a_server_on_every_address_reaches_itself(authority: Authority, files: TlsFiles) -> None:
    server = ThreadServer([], threads=2)
    port = server.start("0.0.0.0:0", ServerIdentity(files, interval_s=0.02))
    renew(authority, files)
    wait_for(lambda: shown(port) == Pem.read(files).certificate(), what="the new one is shown")
    server.drain(0)


def test_a_server_on_a_socket_of_the_file_system_reaches_itself(
    authority: Authority, files: TlsFiles, tmp_path: Path
) -> None:
    server = ThreadServer([], threads=2)
    address = f"unix:{tmp_path}/server.sock"
    server.start(address, ServerIdentity(files, interval_s=0.02))
    renew(authority, files)
    wait_for(lambda: shown(0, address) == Pem.read(files).certificate(), what="the new one is shown")
    server.drain(0)


def test_a_connection_that_another_process_got_is_no_visit(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Workers share their port: the handshake must be one of this very process."""
    monkeypatch.setattr("servicekit.credentials.pinned_handshake.TIMEOUT_S", 0.2)
    monkeypatch.setattr("servicekit.credentials.pinned_handshake._ends", lambda: iter(()))
    with pytest.raises(VisitError, match="other processes"):
        visit("127.0.0.1:0", port)


def test_no_server_is_no_visit() -> None:
    with pytest.raises(VisitError, match="no connection"):
        visit("127.0.0.1:0", free_port())


def test_core_asks_at_each_handshake_and_one_at_a_time(files: TlsFiles) -> None:
    """Relied on: what is handed out is shown from that same handshake on; an open handshake is kept open."""
    pem, asked, inside = Pem.read(files), threading.Semaphore(0), threading.Lock()

    def fetch() -> None:
        assert inside.acquire(blocking=False)
        asked.release()
        inside.release()

    server = grpc.server(None)  # type: ignore[arg-type]  # no call comes
    credentials = grpc.dynamic_ssl_server_credentials(pem.configuration(), fetch, require_client_authentication=True)  # type: ignore[arg-type]
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        for _ in range(3):
            with closing(visit("127.0.0.1:0", port)) as one:
                assert asked.acquire(timeout=10)
                assert one.certificate == pem.certificate()
                one.connection.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    one.connection.recv(1)
        assert not asked.acquire(blocking=False)
    finally:
        server.stop(0)


def test_a_silent_connection_holds_nothing_up(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)):
        assert shown(port)
