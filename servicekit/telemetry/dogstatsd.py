"""Sends metrics to a Datadog agent: summed up in the process, sent by a thread in DogStatsD's format.

Own code rather than Datadog's client: that one looks the agent's name up, and sends, under the lock that callers wait
for, so that a resolver that hangs stops the event loop; and it cannot say what it lost.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import structlog

from servicekit.process.periodic_thread import PeriodicThread

FLUSH_S: Final = 1.0
RESOLVE_S: Final = 60.0
"""Seconds after which an agent's name is looked up once more: the agent may have moved."""
CLOSE_S: Final = 2.0
"""Seconds that the last metrics get."""
MAX_DATAGRAM: Final = 1432
"""Bytes that pass any network whole."""
MAX_LOCAL_DATAGRAM: Final = 8192
"""Bytes of a datagram to a socket file."""
MAX_SERIES: Final = 2_000
MAX_OBSERVATIONS: Final = 50_000
MAX_EVENTS: Final = 100
UNIX: Final = "unix://"

Series: TypeAlias = tuple[str, tuple[str, ...]]
"""A metric's name and tags."""

Resolve: TypeAlias = Callable[..., Sequence[tuple[Any, ...]]]
"""As `socket.getaddrinfo`."""

logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Gathered:
    """Metrics gathered since the last sending."""

    counts: dict[Series, int] = field(default_factory=dict)
    gauges: dict[Series, float] = field(default_factory=dict)
    observations: list[tuple[Series, float]] = field(default_factory=list)
    events: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)


class DogStatsd:
    """Sends metrics; callers never wait for the agent, its name or the network.

    While there is no agent, counts are kept and so is the last value of each gauge; of observations and events as many
    as there is room for, and one line counts the rest.

    Args:
        host: Name or address of the agent, an IPv6 address with or without brackets, or `unix:///path` of its socket.
        port: Its UDP port.
        tags: Of every metric.
        resolve: Looks the name up.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tags: Iterable[str] = (),
        resolve: Resolve = socket.getaddrinfo,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = host.removeprefix(UNIX) if host.startswith(UNIX) else ""
        self._host = host.strip("[]")
        self._port = port
        self._tags = tuple(tags)
        self._resolve = resolve
        self._clock = clock
        self._lock = threading.Lock()
        self._gathered = _Gathered()
        self._lost = 0
        self._socket: socket.socket | None = None
        self._resolve_at = 0.0
        self._well = True
        self._thread = PeriodicThread(
            "dogstatsd", self._flush, interval_s=FLUSH_S, ends_with_step=True, stop_within_s=CLOSE_S
        )
        self._thread.start()

    def count(self, metric: str, value: int = 1, *, tags: Sequence[str] | None = None) -> None:
        """Add to a counter."""
        series = (metric, tuple(tags or ()))
        with self._lock:
            counts = self._gathered.counts
            if series in counts or len(counts) < MAX_SERIES:
                counts[series] = counts.get(series, 0) + value
            else:
                self._lost += 1

    def gauge(self, metric: str, value: float, *, tags: Sequence[str] | None = None) -> None:
        """Set a level."""
        series = (metric, tuple(tags or ()))
        with self._lock:
            gauges = self._gathered.gauges
            if series in gauges or len(gauges) < MAX_SERIES:
                gauges[series] = value
            else:
                self._lost += 1

    def distribution(self, metric: str, value: float, *, tags: Sequence[str] | None = None) -> None:
        """Add an observation."""
        with self._lock:
            if len(self._gathered.observations) < MAX_OBSERVATIONS:
                self._gathered.observations.append(((metric, tuple(tags or ())), value))
            else:
                self._lost += 1

    def event(self, title: str, text: str, *, tags: Sequence[str] | None = None) -> None:
        """Send an event that people should see."""
        with self._lock:
            if len(self._gathered.events) < MAX_EVENTS:
                self._gathered.events.append((title, text, tuple(tags or ())))
            else:
                self._lost += 1

    def close(self) -> None:
        """Send the gathered metrics; give up on a resolver or network that keeps the thread waiting."""
        if self._thread.stop() and self._socket:
            self._socket.close()

    def _flush(self) -> None:
        if not self._connected():
            return
        with self._lock:
            gathered, self._gathered = self._gathered, _Gathered()
            lost, self._lost = self._lost, 0
        if lost:
            logger.warning("metrics.lost", metrics=lost)
        most = MAX_LOCAL_DATAGRAM if self._path else MAX_DATAGRAM
        datagrams = _datagrams(self._lines(gathered), most)
        if not all(map(self._send, datagrams)):
            with self._lock:
                self._lost += sum(datagram.count(b"\n") + 1 for datagram in datagrams)

    def _connected(self) -> bool:
        """Return whether the agent is reachable; resolve its name again when that is due."""
        if self._socket and (self._path or self._clock() < self._resolve_at):
            return True
        try:
            fresh = self._connect()
        except (OSError, UnicodeError) as error:  # a name may be none
            self._note(str(error))
            return self._socket is not None
        if self._socket:
            self._socket.close()
        self._socket = fresh
        self._resolve_at = self._clock() + RESOLVE_S
        return True

    def _connect(self) -> socket.socket:
        if self._path:
            return _connected(socket.AF_UNIX, self._path)
        found = self._resolve(self._host, self._port, type=socket.SOCK_DGRAM)
        family, _, _, _, address = found[0]
        return _connected(family, address)

    def _send(self, datagram: bytes) -> bool:
        """Send a datagram; return False if the agent does not keep up, as the others would wait as long."""
        if self._socket is None:
            return False
        try:
            self._socket.send(datagram)
        except OSError as error:  # refused: as the one before found nobody
            self._note(str(error))
            self._resolve_at = 0.0
            if self._path:  # its next process makes another file
                self._socket.close()
                self._socket = None
            return not isinstance(error, TimeoutError)
        self._note("")
        return True

    def _note(self, problem: str) -> None:
        """Log a change once."""
        agent = self._path or f"{self._host}:{self._port}"
        if problem and self._well:
            logger.warning("metrics.not_sent", agent=agent, problem=problem)
        if not problem and not self._well:
            logger.info("metrics.sent", agent=agent)
        self._well = not problem

    def _lines(self, gathered: _Gathered) -> Iterator[str]:
        for (name, tags), total in gathered.counts.items():
            yield f"{name}:{total}|c{self._tagged(tags)}"
        for (name, tags), level in gathered.gauges.items():
            yield f"{name}:{level}|g{self._tagged(tags)}"
        for (name, tags), value in gathered.observations:
            yield f"{name}:{value}|d{self._tagged(tags)}"
        for title, text, tags in gathered.events:
            head, body = _one_line(title), _one_line(text)
            yield f"_e{{{len(head.encode())},{len(body.encode())}}}:{head}|{body}{self._tagged(tags)}"

    def _tagged(self, tags: tuple[str, ...]) -> str:
        every = ",".join(tag.replace("|", "_").replace("\n", "_") for tag in (*self._tags, *tags))
        return f"|#{every}" if every else ""


def global_tags(program: str) -> list[str]:
    """Return the tags of Datadog's variables: one `service`, and `env`, `version` and DD_TAGS."""
    named: dict[str, str] = {"service": program}
    for tag in (os.environ.get("DD_TAGS") or "").replace(",", " ").split():
        name, colon, value = tag.partition(":")
        named[name] = value if colon else ""
    for name in ("service", "env", "version"):
        if asked := os.environ.get(f"DD_{name.upper()}"):
            named[name] = asked
    return [f"{name}:{value}" if value else name for name, value in named.items()]


def _connected(family: int, address: Any) -> socket.socket:
    fresh = socket.socket(family, socket.SOCK_DGRAM)
    try:
        fresh.settimeout(FLUSH_S)
        fresh.connect(address)
    except BaseException:
        fresh.close()
        raise
    return fresh


def _datagrams(lines: Iterable[str], most: int) -> Iterator[bytes]:
    """Join lines into datagrams; a line longer than one goes alone."""
    waiting: list[bytes] = []
    size = 0
    for line in lines:
        encoded = line.encode("utf-8", "replace")
        if waiting and size + len(encoded) + 1 > most:
            yield b"\n".join(waiting)
            waiting, size = [], 0
        waiting.append(encoded)
        size += len(encoded) + 1
    if waiting:
        yield b"\n".join(waiting)


def _one_line(text: str) -> str:
    return text.replace("\r", "").replace("\n", "\\n")
