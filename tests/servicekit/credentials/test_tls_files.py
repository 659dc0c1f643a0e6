"""Beyond this machine nobody connects without a certificate of the trusted authority."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from servicekit.credentials.tls_files import InsecureListenError, TlsFiles, is_loopback, server_credentials
from servicekit.server.thread_server import ThreadServer
from tests.support.certificates import Authority
from tests.support.grpc.echo import SERVICE, caller, handlers
from tests.support.polling import wait_for


@pytest.mark.parametrize(
    "address", ["127.0.0.1:50051", "127.8.9.10:0", "localhost:50051", "[::1]:50051", "unix:/run/recsvc.sock"]
)
def test_loopback_needs_no_certificate(address: str) -> None:
    assert is_loopback(address)
    assert server_credentials(address, None) is None


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0:50051", "[::]:50051", "10.0.0.1:50051", "recsvc:50051", "localhost.example.com:50051", ":50051"],
)
def test_plain_text_beyond_loopback_is_refused(address: str) -> None:
    with pytest.raises(InsecureListenError, match="TLS_CERT_FILE, TLS_KEY_FILE and TLS_CA_FILE"):
        server_credentials(address, None)


def test_certificate_key_and_authority_go_together(tmp_path: Path) -> None:
    assert TlsFiles.of(None, None, None) is None
    with pytest.raises(ValueError, match="go together"):
        TlsFiles.of(tmp_path / "certificate", tmp_path / "key", None)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def identity(authority: Authority) -> TlsFiles:
    return authority.issue("recsvc")


@pytest.fixture
def server(identity: TlsFiles) -> Iterator[str]:
    """The address of a server that demands certificates."""
    server = ThreadServer([], threads=2)
    server.add_methods(SERVICE, handlers(Say=lambda request, _: request))
    port = server.start("127.0.0.1:0", server_credentials("127.0.0.1:0", identity))
    yield f"127.0.0.1:{port}"
    server.drain(0)


def say(address: str, credentials: grpc.ChannelCredentials | None) -> bytes:
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = (
        grpc.secure_channel(address, credentials, options) if credentials else grpc.insecure_channel(address, options)
    )
    with channel:
        return caller(channel, "Say")(b"hello", timeout=5)


def is_served(address: str, credentials: grpc.ChannelCredentials) -> bool:
    try:
        return say(address, credentials) == b"hello"
    except grpc.RpcError:
        return False


@pytest.mark.peer
def test_a_caller_with_a_certificate_is_served(server: str, authority: Authority) -> None:
    assert say(server, authority.issue("bridge").channel()) == b"hello"


@pytest.mark.peer
def test_a_caller_of_another_authority_is_refused(server: str, tmp_path: Path, identity: TlsFiles) -> None:
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other", "stranger").issue("bridge")
    trusting = TlsFiles(certificate=stranger.certificate, key=stranger.key, authority=identity.authority)
    with pytest.raises(grpc.RpcError) as refused:
        say(server, trusting.channel())
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.peer
def test_a_caller_without_a_certificate_is_refused(server: str, identity: TlsFiles) -> None:
    with pytest.raises(grpc.RpcError):
        say(server, grpc.ssl_channel_credentials(identity.authority.read_bytes()))


@pytest.mark.peer
def test_a_caller_in_plain_text_is_refused(server: str) -> None:
    with pytest.raises(grpc.RpcError):
        say(server, None)


@pytest.mark.peer
def test_renewed_certificates_count_for_new_connections(
    server: str, authority: Authority, identity: TlsFiles, tmp_path: Path
) -> None:
    """The old authority's callers are refused once the files are renewed; no restart is needed."""
    before = authority.issue("bridge").channel()
    assert say(server, before) == b"hello"
    (tmp_path / "renewed").mkdir()
    renewed = Authority(tmp_path / "renewed", "authority")
    new = renewed.issue("recsvc")
    for old_file, new_file in (
        (identity.certificate, new.certificate),
        (identity.key, new.key),
        (identity.authority, new.authority),
    ):
        new_file.replace(old_file)
    caller_files = renewed.issue("bridge")
    trusting = TlsFiles(certificate=caller_files.certificate, key=caller_files.key, authority=identity.authority)
    wait_for(lambda: is_served(server, trusting.channel()), what="the new ones count")
    with pytest.raises(grpc.RpcError):
        say(server, before)


@pytest.mark.peer
def test_files_in_the_middle_of_their_renewal_break_nothing(
    server: str, authority: Authority, identity: TlsFiles
) -> None:
    callers = authority.issue("bridge").channel()
    identity.key.unlink()
    assert say(server, callers) == b"hello"
