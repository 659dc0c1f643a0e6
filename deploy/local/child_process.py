"""Runs a child process that never outlives its parent, with its output in a log file."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

EXEC_WITH_PARENT: Final = Path(__file__).parents[2] / "servicekit" / "process" / "exec_with_parent.py"
POLL_INTERVAL_S: Final = 0.02
SUSPENDED_WITHIN_S: Final = 10.0


class ChildError(Exception):
    """A child did not do its task; the message is one line for people."""


@dataclass(slots=True)
class Child:
    """A running program in a session of its own, so that a terminal's Ctrl-C reaches the parent only.

    Start it from the main thread: the kernel ties its life to the thread that started it.
    """

    name: str
    log: Path | None
    process: subprocess.Popen[bytes]
    stop_signal: signal.Signals

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str],
        *,
        log: Path | None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        prefix: Sequence[str] = (),
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> Self:
        """Start a program; append its output to the log file.

        Args:
            name: What people call it.
            command: Program and arguments.
            log: File that its output is added to; None shows it here.
            env: Its whole environment; None hands down this process's.
            cwd: Its working directory.
            prefix: A command that runs the command given to it, such as one that drops privileges.
            stop_signal: What makes it end in order.
        """
        if log:
            log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") if log else nullcontext() as output:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-IS", str(EXEC_WITH_PARENT), str(os.getpid()), f"{stop_signal:d}", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
        return cls(name, log, process, stop_signal)

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Return whether the process runs."""
        return self.process.poll() is None

    def wait_until(self, ready: Callable[[], bool], *, timeout_s: float, what: str = "was not ready") -> None:
        """Poll until ready; ChildError with the end of its log when the child ends or the time is over."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            if not self.running:
                raise ChildError(f"{self.name} ended with status {self.process.returncode}: {self.last_words()}")
            if time.monotonic() > deadline:
                raise ChildError(f"{self.name} {what} after {timeout_s:.0f} s: see {self.log}")
            time.sleep(POLL_INTERVAL_S)

    def last_words(self) -> str:
        """Return the last line of the log."""
        if not self.log:
            return "see above"
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - 4096))
            lines = log.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it left no message")

    def stop(self, *, timeout_s: float = 10) -> None:
        """Terminate the process, and kill it when that takes longer than the time given."""
        if self.running:
            self.process.send_signal(self.stop_signal)
            self.resume()  # a suspended process would not see the signal
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill the process and its descendants at once, as a power cut would."""
        self._signal_all(signal.SIGKILL)
        self.process.wait()

    def suspend(self) -> None:
        """Suspend the process and its descendants, and return once none of them runs."""
        self._signal_all(signal.SIGSTOP)
        deadline = time.monotonic() + SUSPENDED_WITHIN_S
        while any(map(_runs, [self.pid, *descendants(self.pid)])) and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL_S)

    def resume(self) -> None:
        """Resume the process and its descendants."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        if not self.running:
            return
        for pid in (self.pid, *descendants(self.pid)):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue  # it ended in the meantime


def _runs(pid: int) -> bool:
    """Return whether a process is neither stopped nor at its end."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "TtZX"


def descendants(pid: int) -> list[int]:
    """Return the ids of a process's descendants, parents first; none where there is no /proc.

    A process group does not do: Postgres gives each of its processes a session of its own.
    """
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
        except OSError:
            continue  # it ended in the meantime
        children.setdefault(parent, []).append(int(status.parent.name))
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found[1:]
