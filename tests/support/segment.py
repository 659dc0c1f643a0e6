"""An HTTP endpoint that takes batches of events as Segment does, or fails as it is told to."""

import gzip
import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class SegmentServer:
    """Keeps what it accepted.

    Attributes:
        statuses: How the next requests end, 200 afterwards; 0 never answers.
        batches: The accepted batches.
        requests: How many requests came.
        authorizations: Their headers.
    """

    def __init__(self) -> None:
        self.statuses: deque[int] = deque()
        self.otherwise = 200
        self.batches: list[list[dict[str, Any]]] = []
        self.requests = 0
        self.authorizations: set[str] = set()
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/batch"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def events(self) -> list[dict[str, Any]]:
        """All accepted events."""
        return [event for batch in self.batches for event in batch]

    def take(self, path: str, authorization: str, body: bytes) -> int | None:
        """Return the status of one request; None leaves it without an answer."""
        self.requests += 1
        self.authorizations.add(authorization)
        status = self.statuses.popleft() if self.statuses else self.otherwise
        if status == 0:
            self._released.wait(30)
            return None
        if status == 200:
            assert path == "/v1/batch"
            self.batches.append(json.loads(gzip.decompress(body))["batch"])
        return status


def _handler(server: SegmentServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # the name that http.server looks for
            body = self.rfile.read(int(self.headers["content-length"]))
            status = server.take(self.path, self.headers["authorization"], body)
            if status is None:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    return Handler
