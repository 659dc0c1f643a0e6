"""A proxy in front of an S3 server that errs, breaks connections off or is slow, as a test tells it."""

import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import urlsplit

SLOW_DOWN: Final = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
HOP_BY_HOP: Final = {"connection", "transfer-encoding", "content-length"}
PIECE: Final = 4096


class Kind(Enum):
    """What happens to a request."""

    SLOW_DOWN = auto()
    """503, and the server never hears of it."""
    RESET = auto()
    """The connection is reset before the server hears of it."""
    LOST = auto()
    """The server does it, and the connection is reset in place of its reply."""
    SILENCE = auto()
    """The server does it, and neither a reply comes nor an end of the connection."""
    CUT = auto()
    """The connection is reset in the middle of the reply's body."""
    STALL = auto()
    """The reply stops in the middle of its body, and the connection stays."""


@dataclass(kw_only=True, slots=True)
class Fault:
    """Happens to requests of a method whose path ends with a pattern, so many times."""

    kind: Kind
    method: str
    path: str
    times: int = 1_000_000


@dataclass(kw_only=True, slots=True)
class Faults:
    """What goes wrong now, and what did."""

    planned: list[Fault] = field(default_factory=list)
    happened: list[Kind] = field(default_factory=list)
    bytes_per_s: float | None = None
    """Of the body of each reply; None for as fast as it goes."""
    over: threading.Event = field(default_factory=threading.Event)
    """Set when stalled connections are to end."""

    def take(self, method: str, path: str) -> Kind | None:
        """Return what is to happen to a request, and count it."""
        for fault in self.planned:
            if fault.times and fault.method == method and re.search(f"{fault.path}$", urlsplit(path).path):
                fault.times -= 1
                self.happened.append(fault.kind)
                return fault.kind
        return None


@contextmanager
def faulty(environment: dict[str, str]) -> Iterator[tuple[dict[str, str], Faults]]:
    """Run the proxy, and yield the environment that leads boto3 to it, and what it is told by."""
    faults = Faults()
    address = urlsplit(environment["AWS_ENDPOINT_URL_S3"])

    class Handler(_Handler):
        told = faults
        upstream = (str(address.hostname), address.port or 80)

    with _Proxy(("127.0.0.1", 0), Handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield environment | {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{proxy.server_port}"}, faults
        finally:
            faults.over.set()
            proxy.shutdown()


class _Proxy(ThreadingHTTPServer):
    """Does not mind clients that go away."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Print what is no lost connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # as it was called


class _Handler(BaseHTTPRequestHandler):
    """Passes requests on."""

    protocol_version = "HTTP/1.1"
    told: Faults
    upstream: tuple[str, int]

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind = self.told.take(self.command, self.path)
        if kind is Kind.RESET:
            self._reset()
        elif kind is Kind.SLOW_DOWN:
            self._answer(503, {"Content-Type": "application/xml"}, SLOW_DOWN, None)
        else:
            self._forward(body, kind)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass  # noqa: N815  # names of the standard library

    def _forward(self, body: bytes, kind: Kind | None) -> None:
        server = HTTPConnection(*self.upstream, timeout=30)
        try:
            server.request(self.command, self.path, body, dict(self.headers))
            reply: HTTPResponse = server.getresponse()
            data = reply.read()
        finally:
            server.close()
        if kind is Kind.LOST:
            self._reset()
        elif kind is Kind.SILENCE:
            self._wait()
        else:
            length = reply.headers["Content-Length"] if self.command == "HEAD" else None
            headers = {name: value for name, value in reply.headers.items() if name.lower() not in HOP_BY_HOP}
            self._answer(reply.status, headers | ({"Content-Length": length} if length else {}), data, kind)

    def _answer(self, status: int, headers: dict[str, str], data: bytes, kind: Kind | None) -> None:
        self.send_response_only(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self._send(data[: len(data) // 2] if kind else data)
        if kind is Kind.CUT:
            self._reset()
        elif kind is Kind.STALL:
            self._wait()

    def _send(self, data: bytes) -> None:
        rate = self.told.bytes_per_s
        for begin in range(0, len(data), PIECE):
            piece = data[begin : begin + PIECE]
            self.wfile.write(piece)
            if rate:
                time.sleep(len(piece) / rate)

    def _wait(self) -> None:
        self.close_connection = True
        self.told.over.wait()

    def _reset(self) -> None:
        """Close with RST, not FIN."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """Log nothing."""
