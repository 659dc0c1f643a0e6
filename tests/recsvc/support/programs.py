"""`python -m recsvc` in processes of its own."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tests.support.polling import wait_for

TIMEOUT_S = 30


def environment(folder: Path, **changes: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {
        **kept,
        "RECSVC_LISTEN": "127.0.0.1:0",
        "RECSVC_WORKERS": "1",
        "MODEL_STORE_URL": (folder / "store").as_uri(),
        "MODEL_CACHE_DIR": str(folder / "cache"),
        "MODEL_POLL_INTERVAL_S": "0.05",
        **changes,
    }


class Program:
    """The server in a process of its own, maybe under another program; its log goes to a file."""

    def __init__(self, folder: Path, *under: str, **changes: str) -> None:
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*under, sys.executable, "-m", "recsvc"], env=environment(folder, **changes), stderr=log
            )

    def events(self) -> list[str]:
        lines = self._log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["event"] for line in lines]

    def children(self, name: str = "") -> list[int]:
        """Return the processes that the supervisor keeps now: all, or those of one program."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
        return [int(child) for child in children if name in Path(f"/proc/{child}/cmdline").read_text(encoding="utf-8")]

    def port(self) -> int:
        """Return the port as soon as it is logged."""
        found = wait_for(lambda: re.findall(r'"port": (\d+)', self._log.read_text(encoding="utf-8")), what="listening")
        return int(found[0])


@contextmanager
def started(folder: Path, *under: str, **changes: str) -> Iterator[Program]:
    program = Program(folder, *under, **changes)
    try:
        yield program
    finally:
        program.process.kill()
        program.process.wait()


def run(folder: Path, *arguments: str, **changes: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "recsvc", *arguments],
        env=environment(folder, **changes),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )


def open_for_writing(pipe: Path) -> BinaryIO | None:
    """Open a pipe that somebody reads, None while nobody does."""
    try:
        return os.fdopen(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK), "wb")
    except OSError:
        return None
