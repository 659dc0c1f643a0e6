"""The program `python -m retrain`, run to its end."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
QUICK: Final = {"RETRAIN_FACTORS": "8", "RETRAIN_EPOCHS": "8", "RETRAIN_THREADS": "1"}


def retrain(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the program with nothing of the configuration of the tests' own process."""
    return _run("retrain", *arguments, **environment)


def hurried(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the program so that the lock of a killed run is soon free."""
    return _run("tests.retrain.support.hurried", *arguments, **environment)


def _run(program: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", program, *arguments],
        cwd=ROOT, env=kept | QUICK | environment, capture_output=True, text=True, check=False, timeout=110,
    )  # fmt: skip


def where(folder: Path, exports: Path) -> dict[str, str]:
    return {
        "INTERACTIONS_URL": exports.as_uri(),
        "MODEL_STORE_URL": (folder / "models").as_uri(),
        "RETRAIN_WORK_DIR": str(folder / "work"),
    }


def refusal(done: "subprocess.CompletedProcess[str]") -> str:
    """Return the only line that a refused run printed as an error."""
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")
