"""Starts one of the system's own servers, and waits until it serves."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deploy.local.child_process import Child
from deploy.probe import serves

ROOT: Final = Path(__file__).parents[2]
START_TIMEOUT_S: Final = 180.0
STOP_TIMEOUT_S: Final = 15.0


ELSEWHERE: Final = ("DD_", "MODEL_SIGNING_", "MODEL_VERIFY_", "SEGMENT_", "SNOWFLAKE_", "TLS_")


def local_environment(shell: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without variables that tie programs to a deployment: its telemetry and its identity."""
    return {name: value for name, value in shell.items() if not name.startswith(ELSEWHERE)}


@dataclass(slots=True)
class Service:
    """A Python package that is run as a gRPC server.

    Attributes:
        name: The package's name.
        address: `host:port` that it listens on.
        env: Its whole environment.
        log: File that its output is added to.
        ready: Whether what listens on an address has started.
        prefix: A command that runs the command given to it.
        child: The running process.
    """

    name: str
    address: str
    env: Mapping[str, str]
    log: Path
    ready: Callable[[str], bool] = serves
    prefix: Sequence[str] = ()
    child: Child | None = field(default=None, init=False)

    def start(self) -> None:
        """Start the server, and return when it serves; ChildError if it does not."""
        command = [sys.executable, "-m", self.name]
        self.child = Child.start(self.name, command, log=self.log, env=self.env, cwd=ROOT, prefix=self.prefix)
        self.child.wait_until(lambda: self.ready(self.address), timeout_s=START_TIMEOUT_S, what="did not serve")

    def stop(self) -> None:
        """Terminate the server."""
        if self.child:
            self.child.stop(timeout_s=STOP_TIMEOUT_S)
