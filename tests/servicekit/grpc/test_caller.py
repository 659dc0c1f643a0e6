"""Calls that change something for everybody name who made them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from structlog.testing import capture_logs

from servicekit.credentials.tls_files import TlsFiles, server_credentials
from servicekit.grpc.caller import audited
from servicekit.grpc.errors import ServiceError
from servicekit.server.thread_server import ThreadServer
from tests.support.certificates import Authority
from tests.support.grpc.echo import SERVICE, caller, handlers
from tests.support.polling import wait_for

pytestmark = pytest.mark.peer


class Service:
    """Has one method."""

    @audited
    def say(self, request: bytes, _: Any) -> bytes:
        """Return what was said, unless that is nothing."""
        if not request:
            raise ServiceError(grpc.StatusCode.NOT_FOUND, "NOTHING_SAID", "nothing was said")
        structlog.get_logger().info("said", **structlog.contextvars.get_contextvars())
        return request


@pytest.fixture(params=[True, False], ids=["mutual TLS", "plain text"])
def identity(request: pytest.FixtureRequest, tmp_path: Path) -> TlsFiles | None:
    return Authority(tmp_path, "authority").issue("operator") if request.param else None


@pytest.fixture
def address(identity: TlsFiles | None) -> Iterator[str]:
    server = ThreadServer([], threads=2)
    server.add_methods(SERVICE, handlers(Say=Service().say))
    yield f"127.0.0.1:{server.start('127.0.0.1:0', server_credentials('127.0.0.1:0', identity))}"
    server.drain(0)


def test_the_line_names_peer_and_certificate(identity: TlsFiles | None, address: str) -> None:
    channel = grpc.secure_channel(address, identity.channel()) if identity else grpc.insecure_channel(address)
    with channel, capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        assert caller(channel, "Say")(b"hello", timeout=20) == b"hello"
        with pytest.raises(grpc.RpcError):
            caller(channel, "Say")(b"", timeout=20)
        wait_for(lambda: len(logs) == 3)
    said, done, refused = logs
    for line in (said, done, refused):
        assert line["peer"].startswith("ipv4:127.0.0.1:")
        assert ("operator" in line.get("caller", "")) is (identity is not None)
    assert (done["event"], done["method"], done["outcome"]) == ("admin.called", "say", "OK")
    assert refused["outcome"] == "NOTHING_SAID"
