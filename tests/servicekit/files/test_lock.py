"""Locks among processes: one holds it, others wait or are told, and it ends with its holder."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

import pytest

from servicekit.files.lock import FOR_EVER, FileLock

pytestmark = pytest.mark.process

ROOT: Final = Path(__file__).parents[3]
HOLDER: Final = """
import sys, time
from pathlib import Path
from servicekit.files.lock import FileLock
with FileLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(120)
"""


def test_one_holds_it_and_another_is_told(tmp_path: Path) -> None:
    with FileLock(tmp_path / "lock"), pytest.raises(BlockingIOError):
        FileLock(tmp_path / "lock")
    FileLock(tmp_path / "lock").close()


def test_patience_ends(tmp_path: Path) -> None:
    with FileLock.of_folder(tmp_path), pytest.raises(BlockingIOError):
        FileLock.of_folder(tmp_path, patience_s=0.1)


@pytest.mark.parametrize("patience_s", [FOR_EVER, 60.0])
def test_who_waits_gets_it(tmp_path: Path, patience_s: float) -> None:
    first, got = FileLock(tmp_path / "lock"), threading.Event()

    def wait() -> None:
        with FileLock(tmp_path / "lock", patience_s=patience_s):
            got.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert not got.is_set()
    first.close()
    assert got.wait(20)
    waiting.join()


def test_it_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError):
            FileLock(path)
        holder.kill()
    FileLock(path, patience_s=60).close()


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileLock.of_folder(tmp_path / "gone")
    assert not (tmp_path / "gone").exists()
