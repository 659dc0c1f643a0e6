"""Looks at processes from the outside while they serve: their memory, and what health says of them."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from benchmarks.machine import resident_bytes
from deploy.local.child_process import descendants
from deploy.local.program import Service
from deploy.probe import health
from servicekit.credentials.tls_files import TlsFiles

LOOK_S: Final = 0.3
PROBE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Memory:
    """What a process held: the server it belongs to, and `worker` for its children."""

    at: float
    process: str
    resident: int


@dataclass(frozen=True, slots=True)
class Probe:
    """One look at a server's health, as an orchestrator does it; None where no answer came."""

    at: float
    server: str
    status: int | None


class Watch:
    """Keeps what it saw.

    Args:
        services: The servers by name; some may be added.
        tls: What to present to them.
    """

    def __init__(self, services: Mapping[str, Service], tls: TlsFiles) -> None:
        self._services = services
        self._tls = tls
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._look, daemon=True)]
        self._threads += [threading.Thread(target=self._probe, args=[name], daemon=True) for name in services]
        self.memory: list[Memory] = []
        self.probes: list[Probe] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def peaks(self, begin: float, end: float) -> dict[str, int]:
        """Return the most bytes that each process held then."""
        found: dict[str, int] = {}
        for one in [*self.memory]:
            if begin <= one.at < end:
                found[one.process] = max(one.resident, found.get(one.process, 0))
        return found

    def silent(self, server: str, begin: float, end: float) -> int:
        """Return the most looks in a row, of those begun then, to which a server did not answer."""
        most = run = 0
        for probe in [*self.probes]:
            if probe.server == server and begin <= probe.at < end:
                run = run + 1 if probe.status is None else 0
                most = max(most, run)
        return most

    def _look(self) -> None:
        while not self._stopped.wait(LOOK_S):
            for name, service in [*self._services.items()]:
                if service.child and service.child.running:
                    self._weigh(name, service.child.pid)
                    for pid in descendants(service.child.pid):
                        self._weigh(f"{name} worker", pid)

    def _weigh(self, process: str, pid: int) -> None:
        try:
            self.memory.append(Memory(time.monotonic(), process, resident_bytes(pid)))
        except (OSError, IndexError):
            return  # it has ended

    def _probe(self, server: str) -> None:
        while not self._stopped.wait(PROBE_S):
            begin = time.monotonic()
            self.probes.append(Probe(begin, server, health(self._services[server].address, self._tls)))
