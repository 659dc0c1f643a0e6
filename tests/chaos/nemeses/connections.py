"""Nemeses that connect: many at once, or slowly."""

import random
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from queue import SimpleQueue
from typing import Any, ClassVar, Final

import grpc

from deploy.probe import health
from tests.chaos.nemeses.nemesis import Attack, Nemesis
from tests.chaos.system.cluster import CHANNELS, RECSVC, Cluster
from tests.support.polling import wait_for

CLIENTS: Final = 50
AT_ONCE: Final = 8
CONNECT_S: Final = 5.0
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS: Final = b"\0\0\0\4\0\0\0\0\0"
LOOKS: Final = 2
MUTE: Final = 8
"""Connections, or streams, of each slow kind to each server."""
STREAMS: Final = {
    "recsvc": (
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/videowindow.lightfm.v2025_9.RecommendationService/BatchRecommend",
        "/videowindow.lightfm.v2025_9.RecommendationService/Recommend",
    ),
    "bridge": (
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/videowindow.feed.v1.InteractionService/StreamInteractions",
        "/videowindow.feed.v1.FeedService/GetRecommendations",
    ),
}
"""Methods that are called without ever a message."""


class ReconnectStorm(Nemesis):
    """50 TLS clients reconnect together, 8 at once, to one server after the other; certificates renew in between."""

    name: ClassVar[str] = "reconnect storm"

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        super().__init__(cluster, rng)
        self._attack: Attack | None = None
        self._made = 0

    def begin(self) -> None:
        """Start the storms."""
        self._attack = Attack(self._storm)

    def end(self) -> None:
        """Let the last one pass."""
        if self._attack:
            self._attack.stop()

    def check(self, patience_s: float) -> None:
        """The last certificate is the one that new connections see."""
        for name, server in self.cluster.servers.items():
            wait_for(
                lambda server=server: self._served(server.address) == self._issued(),  # type: ignore[misc]  # bound
                timeout_s=patience_s,
                interval_s=0.2,
                what=f"the renewed certificate of {name}",
            )

    def _storm(self) -> None:
        context = tls_context(self.cluster)
        for server in self.cluster.servers.values():
            with ThreadPoolExecutor(AT_ONCE) as pool:
                made = pool.map(lambda _, address=server.address: _visit(context, address), range(CLIENTS))
                self._made += sum(made)
            self.cluster.identities.renew()

    def _served(self, address: str) -> bytes:
        try:
            with connect(tls_context(self.cluster), address) as connection:
                return connection.getpeercert(binary_form=True) or b""
        except OSError:
            return b""

    def _issued(self) -> bytes:
        return ssl.PEM_cert_to_DER_cert(self.cluster.identities.files.certificate.read_text(encoding="ascii"))


class SlowLoris(Nemesis):
    """Connections that say nothing, only HTTP/2's preface, or a byte a second, and streams without a message."""

    name: ClassVar[str] = "slow loris"

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        super().__init__(cluster, rng)
        self._open = ExitStack()
        self._drips: list[tuple[ssl.SSLSocket, bytes]] = []
        self._attack: Attack | None = None

    def begin(self) -> None:
        """Open everything."""
        context = tls_context(self.cluster)
        for name, server in self.cluster.servers.items():
            for _ in range(MUTE):
                self._open.enter_context(tcp(server.address))
                silent = self._open.enter_context(connect(context, server.address))
                silent.sendall(PREFACE + SETTINGS)
                self._drips.append((self._open.enter_context(connect(context, server.address)), PREFACE))
            for _ in range(CHANNELS):
                channel = self._open.enter_context(self.cluster.channel(server.address))
                for method in STREAMS[RECSVC if name == RECSVC else "bridge"]:
                    self._call_in_silence(channel, method)
        self._attack = Attack(self._drip, pause_s=1.0)

    def act(self, seconds: float) -> None:
        """Look at the servers' health after half of the time: an orchestrator ends those that do not answer."""
        time.sleep(seconds / 2)
        begun = time.monotonic()
        for name, server in self.cluster.servers.items():
            if all(health(server.address, self.cluster.identities.files) is None for _ in range(LOOKS)):
                self.findings.append(f"{LOOKS} health checks in a row of {name} were not answered")
        time.sleep(max(0.0, seconds / 2 - (time.monotonic() - begun)))

    def end(self) -> None:
        """Close everything."""
        if self._attack:
            self._attack.stop()
        self._open.close()

    def _call_in_silence(self, channel: grpc.Channel, method: str) -> None:
        never: SimpleQueue[bytes] = SimpleQueue()
        method_call: Any = channel.stream_stream(method)
        for _ in range(MUTE):
            call = method_call(iter(never.get, b""))
            self._open.callback(never.put, b"")
            self._open.callback(call.cancel)

    def _drip(self) -> None:
        dripping = []
        for connection, rest in self._drips:
            with suppress(OSError):
                connection.sendall(rest[:1])
                dripping.append((connection, rest[1:] or SETTINGS))
        self._drips = dripping


def tls_context(cluster: Cluster) -> ssl.SSLContext:
    """Return what a client of HTTP/2 with the present certificate connects by."""
    files = cluster.identities.files
    context = ssl.create_default_context(cafile=str(files.authority))
    while True:
        with suppress(ssl.SSLError):  # a certificate and a key of two renewals
            context.load_cert_chain(files.certificate, files.key)
            context.set_alpn_protocols(["h2"])
            return context
        time.sleep(0.01)


def tcp(address: str) -> socket.socket:
    """Return a connection to a server."""
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), CONNECT_S)


def connect(context: ssl.SSLContext, address: str) -> ssl.SSLSocket:
    """Return a connection to a server on which TLS is agreed on."""
    return context.wrap_socket(tcp(address), server_hostname=address.rpartition(":")[0])


def _visit(context: ssl.SSLContext, address: str) -> bool:
    """Connect, begin HTTP/2, wait for the answer, and go; return whether that was possible."""
    try:
        with connect(context, address) as connection:
            connection.sendall(PREFACE + SETTINGS)
            return bool(connection.recv(64))
    except OSError:
        return False
