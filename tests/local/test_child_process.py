"""Children end with their parent, however that ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from deploy.local.child_process import Child, ChildError
from tests.support.polling import wait_for

pytestmark = pytest.mark.process

ROOT: Final = Path(__file__).parents[2]
PARENT: Final = """
import sys, time
from pathlib import Path
from deploy.local.child_process import Child
child = Child.start("sleeper", ["sleep", "600"], log=Path(sys.argv[1]))
print(child.pid, flush=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    return state != "Z"


def start(tmp_path: Path, script: str) -> Child:
    return Child.start("example", ["bash", "-c", script], log=tmp_path / "log")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_child_dies_with_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    """Even when the parent is killed and can do nothing about it."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "log")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        wait_for(lambda: Path(f"/proc/{pid}/comm").read_text(encoding="utf-8") == "sleep\n")
        parent.send_signal(number)
        parent.wait(10)
    wait_for(lambda: not alive(pid), what="the child has ended")


def test_a_child_that_ends_early_leaves_its_last_words(tmp_path: Path) -> None:
    child = start(tmp_path, "echo begun; echo 'error: DATABASE_URL: Field required' >&2; exit 2")
    with pytest.raises(ChildError) as failed:
        child.wait_until(lambda: False, timeout_s=10)
    assert str(failed.value) == "example ended with status 2: error: DATABASE_URL: Field required"


def test_a_child_that_is_never_ready_is_reported_with_its_log(tmp_path: Path) -> None:
    child = start(tmp_path, "sleep 600")
    with pytest.raises(ChildError, match=f"example was not ready after 0 s: see {tmp_path / 'log'}"):
        child.wait_until(lambda: False, timeout_s=0.1)
    child.kill()


def test_a_child_that_ignores_its_signal_is_killed(tmp_path: Path) -> None:
    child = start(tmp_path, "trap '' TERM; echo deaf; while :; do sleep 0.1; done")
    wait_for(lambda: child.last_words() == "deaf")
    child.stop(timeout_s=0.2)
    assert child.process.returncode == -signal.SIGKILL


def test_a_suspended_child_can_be_stopped(tmp_path: Path) -> None:
    child = start(tmp_path, "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done")
    wait_for(lambda: child.last_words() == "ready")
    child.suspend()
    child.stop(timeout_s=5)
    assert child.process.returncode == 0


def test_killing_takes_descendants_along(tmp_path: Path) -> None:
    """Also those in a session of their own, as Postgres has them."""
    child = start(tmp_path, "setsid sleep 601 & echo $!; wait")
    pid = int(wait_for(lambda: child.last_words().isdecimal() and child.last_words()))
    wait_for(lambda: alive(pid))
    child.kill()
    wait_for(lambda: not alive(pid), what="the grandchild has ended")
