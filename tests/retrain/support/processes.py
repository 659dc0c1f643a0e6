"""Runs as processes of their own, which tests kill, stop and starve."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from modelstore.registry import Registry
from servicekit.storage.object_store import FileStore
from tests.retrain.support.command import QUICK, ROOT

LEARNING: Final = {"RETRAIN_FACTORS": "16", "RETRAIN_EPOCHS": "8"}
PROGRAM: Final = ("-m", "retrain", "run")


@contextmanager
def running(*program: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """Yield a run that is under way, and end it afterwards."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = subprocess.Popen(
        [sys.executable, *(program or PROGRAM)],
        cwd=ROOT, env=kept | QUICK | environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr
    with process.stderr:
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def wait_for_line(process: "subprocess.Popen[str]", words: str) -> None:
    """Return as soon as the run logs these words; AssertionError when it ends before."""
    assert process.stderr
    seen = []
    for line in process.stderr:
        seen.append(line)
        if words in line:
            return
    raise AssertionError(f"no {words!r} in {seen}")


def rest_of_lines(process: "subprocess.Popen[str]") -> list[str]:
    """Return what the run writes from now on, when it has ended."""
    assert process.stderr
    return process.stderr.read().splitlines()


def live(folder: Path) -> str:
    """Return the live version of the folder's models."""
    current = Registry(FileStore(folder / "models")).current()
    assert current
    return current[0].version


def smoke_servers(folder: Path) -> list[int]:
    """Return the processes that serve for smoke tests whose scratch is within a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is not ours
            if f"MODEL_CACHE_DIR={folder}/".encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
    return found
