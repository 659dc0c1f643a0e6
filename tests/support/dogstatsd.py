"""A DogStatsD agent's UDP socket."""

import socket
import threading
from dataclasses import dataclass
from typing import Self

from tests.support.polling import wait_for


@dataclass(frozen=True, slots=True)
class Packet:
    """One metric: `name:value|type|#tag,tag`, where a value may be several joined by colons."""

    name: str
    values: tuple[float, ...]
    kind: str
    tags: frozenset[str]

    @classmethod
    def parse(cls, line: str) -> Self:
        """Return the metric of one line of the protocol."""
        head, kind, *rest = line.split("|")
        name, *values = head.split(":")
        tags = next((part[1:].split(",") for part in rest if part.startswith("#")), [])
        return cls(name, tuple(map(float, values)), kind, frozenset(tags))


class DogStatsdServer:
    """Receives what DogStatsD clients send to its port."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._lines: list[str] = []
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self.host = "127.0.0.1"
        self.port: int = self._socket.getsockname()[1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as knock:
            knock.sendto(b"", (self.host, self.port))
        self._thread.join(5)
        self._socket.close()

    @property
    def lines(self) -> list[str]:
        """Every line received so far, as sent."""
        return list(self._lines)

    def clear(self) -> None:
        """Forget what was received so far."""
        self._lines.clear()

    def packets(self, name: str, *tags: str) -> list[Packet]:
        """Return the metrics of a name that bear all of the tags."""
        metrics = [Packet.parse(line) for line in self.lines if not line.startswith(("_e{", "_sc|"))]
        return [metric for metric in metrics if metric.name == name and metric.tags.issuperset(tags)]

    def events(self) -> list[str]:
        """Return the events, as sent."""
        return [line for line in self.lines if line.startswith("_e{")]

    def wait(self, name: str, *tags: str, timeout_s: float = 10) -> list[Packet]:
        """Return the metrics of a name that bear all of the tags as soon as there are any."""
        return wait_for(lambda: self.packets(name, *tags), timeout_s=timeout_s, what=f"{name} {tags}")

    def _receive(self) -> None:
        while True:
            packet = self._socket.recv(65536)
            if not packet:
                return
            self._lines += packet.decode().splitlines()
