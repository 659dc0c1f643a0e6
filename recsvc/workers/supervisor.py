"""Worker processes on one port, and the follower: started, watched, replaced when they die, and ended in order.

Workers are programs of their own (never forks of a process in which gRPC runs) that share the port by SO_REUSEPORT; the
kernel gives each new connection to one of them. They map the same model files, so memory holds those once. The follower
keeps what they know of users up to date; they serve on without it.
"""

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Event
from typing import Final

import structlog

from recsvc.workers.supervisor_link import ENVIRONMENT

POLL_S: Final = 0.05
FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 10.0
STABLE_S: Final = 30.0
"""A worker that lived as long begins anew with the first delay."""
FOLLOWER_GRACE_S: Final = 30.0
"""Seconds that the follower gets to write to disk what it has."""
FAULTS: Final = {signal.SIGBUS, signal.SIGSEGV}
"""What ends a process that reads a mapped page which the disk cannot give, or which holds anything at all."""
MARGIN_S: Final = 5.0
"""Seconds beyond the grace of running calls after which a worker is killed."""

logger = structlog.get_logger(__name__)


class Worker:
    """The place of one process, which holds the running process and the time to start the next one.

    Args:
        command: The program.
        environment: Its environment, but for the link to this process.
        clock: Seconds, ascending.
        on_fault: Called when it was ended by a fault of memory, before it is started again.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        clock: Callable[[], float],
        *,
        on_fault: Callable[[], object] = lambda: None,
    ) -> None:
        self._on_fault = on_fault
        self._command = command
        self._environment = environment
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._began = 0.0
        self._due = 0.0
        self._deaths = 0
        self.is_ready = False

    def start(self) -> None:
        """Start a process; it ends by itself when this one does, as the link is then cut."""
        self._link, theirs = socket.socketpair()
        self._link.settimeout(0)
        with theirs:
            environment = {**self._environment, ENVIRONMENT: str(theirs.fileno())}
            self._process = subprocess.Popen(self._command, env=environment, pass_fds=[theirs.fileno()])
        self._began = self._clock()
        self._tell_started(self._process.pid)

    @property
    def is_started(self) -> bool:
        """Return whether a process was started and is not known to have ended."""
        return self._process is not None

    def status(self) -> int | None:
        """Return how the process ended; None while it runs."""
        return self._process.poll() if self._process else None

    def look(self) -> None:
        """Read whether the process serves; start another one some time after it died."""
        if self._process is None:
            if self._clock() >= self._due:
                self._start_again()
        elif self._process.poll() is not None:
            self._bury(self._process)
        elif not self.is_ready:
            self.is_ready = self._is_told()

    def _start_again(self) -> None:
        try:
            self.start()
        except OSError as error:  # too little memory, or too many processes, for now
            self._tell_not_started(str(error), self._put_off())

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        if self._process:
            self._process.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        """Return how the process ended; kill it when it does not in time."""
        if self._process is None:
            return 0
        try:
            return self._process.wait(max(0.0, timeout_s))
        except subprocess.TimeoutExpired:
            logger.warning("worker.killed", pid=self._process.pid)
            self._process.kill()
            return self._process.wait()
        finally:
            self._cut()

    def _is_told(self) -> bool:
        try:
            return bool(self._link and self._link.recv(1))
        except BlockingIOError:
            return False

    def _cut(self) -> None:
        if self._link:
            self._link.close()
            self._link = None

    def _bury(self, process: "subprocess.Popen[bytes]") -> None:
        lived_s = self._clock() - self._began
        if lived_s >= STABLE_S:
            self._deaths = 0
        self._tell_died(process.pid, process.returncode, round(lived_s, 1), self._put_off())
        self._process, self.is_ready = None, False
        if -process.returncode in FAULTS:
            self._on_fault()

    def _tell_started(self, pid: int) -> None:
        logger.info("worker.started", pid=pid)

    def _tell_not_started(self, problem: str, again_in_s: float) -> None:
        logger.error("worker.not_started", problem=problem, again_in_s=again_in_s)

    def _tell_died(self, pid: int, status: int, lived_s: float, again_in_s: float) -> None:
        logger.error("worker.died", pid=pid, status=status, lived_s=lived_s, again_in_s=again_in_s)

    def _put_off(self) -> float:
        """Let the next start wait, the longer the more often it was in vain, and return for how many seconds."""
        self._cut()
        self._deaths += 1
        delay_s: float = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(self._deaths - 1, 16))
        self._due = self._clock() + delay_s
        return delay_s


class FollowerProcess(Worker):
    """The place of the process that follows Kafka; nobody waits for it."""

    def _tell_started(self, pid: int) -> None:
        logger.info("follower.started", pid=pid)

    def _tell_not_started(self, problem: str, again_in_s: float) -> None:
        logger.error("follower.not_started", problem=problem, again_in_s=again_in_s)

    def _tell_died(self, pid: int, status: int, lived_s: float, again_in_s: float) -> None:
        logger.error("follower.died", pid=pid, status=status, lived_s=lived_s, again_in_s=again_in_s)


class Supervisor:
    """Keeps the workers and the follower at work until told to stop.

    Args:
        command: The workers' program; each is one process.
        environment: Its environment, and the follower's.
        workers: How many.
        grace_s: Seconds that running calls get at the end.
        follower: The follower's program; None to do without.
        on_fault: Called when a process was ended by a fault of memory, which a file that it had mapped may have caused.
        clock: Seconds, ascending.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        workers: int,
        grace_s: float,
        follower: Sequence[str] | None = None,
        on_fault: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workers = [Worker(command, environment, clock, on_fault=on_fault) for _ in range(workers)]
        self._follower = FollowerProcess(follower, environment, clock, on_fault=on_fault) if follower else None
        self._grace_s = grace_s
        self._clock = clock

    def run(self, stopping: Event) -> int:
        """Serve until told to stop, and return the exit status.

        The first worker goes ahead: it fetches the model for all, and what keeps it from serving would keep all.
        """
        first = self._workers[0]
        first.start()
        while not first.is_ready and not stopping.wait(POLL_S):
            if (status := first.status()) is not None:
                self._end_follower()
                return status if status > 0 else 1
            first.look()
            self._look_after_follower()
        is_whole = False
        while not stopping.wait(POLL_S):
            for worker in self._workers:
                worker.look()
            self._look_after_follower()
            if is_whole != all(worker.is_ready for worker in self._workers):
                is_whole = not is_whole
                logger.info("workers.all_serving" if is_whole else "workers.incomplete", workers=len(self._workers))
        return self._end()

    def _look_after_follower(self) -> None:
        if self._follower:
            self._follower.look()

    def _end(self) -> int:
        logger.info("workers.draining")
        for worker in self._workers:
            worker.signal(signal.SIGTERM)
        statuses = list(self._ends())
        self._end_follower()  # the last one, so that it leaves the store as nobody changes it any more
        logger.info("workers.stopped", statuses=statuses)
        return 0 if not any(statuses) else 1

    def _ends(self) -> Iterator[int]:
        deadline = self._clock() + self._grace_s + MARGIN_S
        for worker in self._workers:
            yield worker.wait(deadline - self._clock())

    def _end_follower(self) -> None:
        if self._follower and self._follower.is_started:
            self._follower.signal(signal.SIGTERM)
            self._follower.wait(FOLLOWER_GRACE_S)
