"""Runs a day in a process of its own, which the schedule can end when it hangs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from threading import Event
from typing import Final

import structlog

from retrain.exit_status import FAILED

logger = structlog.get_logger("retrain")

ROOT: Final = Path(__file__).parents[2]
EXEC_WITH_PARENT: Final = ROOT / "servicekit" / "process" / "exec_with_parent.py"
RUN: Final = (sys.executable, "-m", "retrain", "run", "--date")
GRACE_S: Final = 20.0
POLL_S: Final = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class ChildRun:
    """Starts runs as processes of their own.

    Attributes:
        limit_s: Seconds after which a run is ended by force.
        stopping: Set when the schedule is to stop: a run that is under way is told to end.
        hung: Called with a run that was killed.
        command: What the day is added to.
    """

    limit_s: float
    stopping: Event
    hung: Callable[[date], None]
    command: Sequence[str] = RUN

    def __call__(self, day: date) -> int:
        """Run a day to its end and return its exit status."""
        process = subprocess.Popen(
            [
                *(sys.executable, "-IS", str(EXEC_WITH_PARENT), str(os.getpid()), f"{signal.SIGTERM:d}"),
                *(*self.command, str(day)),
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + self.limit_s
        while process.poll() is None:
            if self.stopping.wait(POLL_S):
                return _end(process)
            if time.monotonic() > deadline:
                logger.error("schedule.hung", day=str(day), limit_s=self.limit_s)
                process.kill()  # whatever it does, it does not listen
                process.wait()
                self.hung(day)
                return FAILED
        return process.returncode


def _end(process: "subprocess.Popen[bytes]") -> int:
    process.terminate()
    try:
        return process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
