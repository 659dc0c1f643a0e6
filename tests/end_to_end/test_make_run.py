"""`make run`: everything comes up, what dies comes back, and Ctrl-C leaves nothing behind."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg.conninfo import conninfo_to_dict

from deploy.local.child_process import descendants
from deploy.local.data_folder import DataSet
from servicekit.process.ports import free_port
from tests.support.grpc.grpcurl import Grpcurl
from tests.support.polling import wait_for
from tests.support.system import FEED

ROOT: Final = Path(__file__).parents[2]
START_TIMEOUT_S: Final = 90


@dataclass(slots=True)
class Run:
    """A running `python -m deploy.local`.

    Attributes:
        bridge: The address of its bridge.
        process: It.
        lines: What it printed so far.
    """

    bridge: str
    process: "subprocess.Popen[str]"
    lines: list[str] = field(default_factory=list)

    def read(self) -> None:
        """Collect what it prints, until it ends."""
        if self.process.stdout:
            self.lines += self.process.stdout  # line by line, as they come

    def printed(self, text: str) -> list[str]:
        """Return the lines with a text in them."""
        return [line for line in list(self.lines) if text in line]

    def ready(self) -> bool:
        """Return whether it says so; AssertionError with its output when it ended instead."""
        assert self.process.poll() is None, "".join(self.lines)
        return bool(self.printed("Ready."))

    def children(self) -> list[int]:
        """Return the ids of the processes that it started."""
        return descendants(self.process.pid)

    def pid_of(self, program: str) -> int:
        """Return the id of the program with this in its command line, and not of its own children."""
        found = {pid for pid in self.children() if program in command_line(pid)}
        (first,) = found - {one for pid in found for one in descendants(pid)}
        return first


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").replace("\0", " ")
    except OSError:
        return ""


@contextmanager
def started(state: Path, data: DataSet, *, terminal: int = subprocess.PIPE) -> Iterator[Run]:
    """Start a run that prints here or on a terminal, and kill it afterwards if it has not ended."""
    bridge = f"127.0.0.1:{free_port()}"
    environment = os.environ | {"RECSVC_LISTEN": f"127.0.0.1:{free_port()}", "BRIDGE_LISTEN": bridge}
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.local", "--data", str(data.folder), "--state", str(state)],
        cwd=ROOT,
        env=environment,
        stdout=terminal,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    run = Run(bridge, process)
    reader = threading.Thread(target=run.read)
    reader.start()
    with process:
        try:
            yield run
        finally:
            process.kill()
            reader.join(30)


@contextmanager
def ready(state: Path, data: DataSet) -> Iterator[Run]:
    """Start a run and wait until it is up."""
    with started(state, data) as run:
        wait_for(run.ready, timeout_s=START_TIMEOUT_S, what="the system is up")
        yield run


def wait_for_the_end(children: list[int]) -> None:
    """Wait until none of a run's processes is left; there were some."""
    assert len(children) >= 4
    wait_for(lambda: not [pid for pid in children if command_line(pid)], what="no process is left")


def served_by(run: Run, grpcurl: Grpcurl) -> str:
    reply = grpcurl(run.bridge, f"{FEED}/GetRecommendations", {"user_id": "u1"})
    return str(reply.message["served_by"])


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory, simulated: DataSet, grpcurl: Grpcurl) -> Path:
    """The folder of a run that has trained, served, and ended on Ctrl-C."""
    folder = tmp_path_factory.mktemp("make_run")
    with ready(folder, simulated) as run:
        assert run.printed("First model")
        assert served_by(run, grpcurl) == "SERVED_BY_LIGHTFM"
        children = run.children()
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(30) == 0
        wait_for_the_end(children)
    assert run.printed("Stopped.")
    assert [line for line in run.lines if line.startswith("{")] == [], "log events are for machines"
    return folder


@pytest.fixture(scope="class")
def run(state: Path, simulated: DataSet) -> Iterator[Run]:
    """The run after that one."""
    with ready(state, simulated) as run:
        yield run


class TestTheSecondRun:
    """What was there is still there, and what dies comes back."""

    def test_trains_nothing_and_keeps_the_database(self, run: Run, grpcurl: Grpcurl) -> None:
        assert not run.printed("First model")
        assert run.printed("History in Postgres: 0 new ")
        wait_for(lambda: run.printed("Ctrl-C stops everything"))
        (file,) = (line.split("=", 1)[1].strip() for line in run.lines if line.startswith("DATABASE_URL_FILE="))
        url = Path(file).read_text(encoding="utf-8")
        assert str(conninfo_to_dict(url)["password"]) not in "".join(run.lines)
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) > 0 FROM user_interactions").fetchone() == (True,)
        assert served_by(run, grpcurl) == "SERVED_BY_LIGHTFM"

    @pytest.mark.parametrize("name", ["recsvc", "bridge"])
    def test_starts_a_killed_service_again(self, run: Run, grpcurl: Grpcurl, name: str) -> None:
        before = run.pid_of(f"-m {name}")
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: run.printed(f"{name} is back after"), what="the service is back")
        assert run.pid_of(f"-m {name}") != before
        wait_for(lambda: served_by(run, grpcurl) == "SERVED_BY_LIGHTFM", interval_s=0.2)

    def test_suffers_no_other_run_beside_it(self, run: Run, state: Path, simulated: DataSet) -> None:
        with started(state, simulated) as other:
            assert other.process.wait(30) == 1
            wait_for(lambda: other.printed("error: it runs already on "))
        assert run.process.poll() is None

    def test_leaves_nothing_behind_when_it_is_killed(self, run: Run) -> None:
        children = run.children()
        run.process.kill()
        wait_for_the_end(children)


def test_a_terminal_that_closes_stops_everything(state: Path, simulated: DataSet) -> None:
    """Even where nothing sends a signal, as the terminal's session has another leader."""
    terminal, ours = os.openpty()
    with started(state, simulated, terminal=ours) as run:
        os.close(ours)
        printed = b""
        while b"Ready." not in printed:
            printed += os.read(terminal, 65536)
        children = run.children()
        os.close(terminal)
        assert run.process.wait(30) == 0
        wait_for_the_end(children)


@pytest.fixture
def refused(simulated: DataSet, tmp_path: Path) -> DataSet:
    """Return a data set that the gate refuses: all interactions of its last day are with one video."""
    folder = tmp_path / "refused"
    shutil.copytree(simulated.folder, folder)
    for path in max((folder / "exports").iterdir()).glob("*.parquet"):
        table = pq.read_table(path)
        videos = pa.array([table["videoId"][0].as_py()] * len(table), table.schema.field("videoId").type)
        pq.write_table(table.set_column(table.schema.get_field_index("videoId"), "videoId", videos), path)
    return DataSet(folder)


def test_a_first_model_that_the_gate_refuses(refused: DataSet, tmp_path: Path, grpcurl: Grpcurl) -> None:
    """Users get what is trending, until the command that it prints publishes the model by force."""
    with ready(tmp_path / "state", refused) as run:
        assert run.printed("First model: refused by the gate")
        assert run.printed("waits for a model")
        assert served_by(run, grpcurl) == "SERVED_BY_TRENDING"
        wait_for(lambda: run.printed("Ctrl-C stops everything"))
        (command,) = run.printed("make retrain ARGS=--force")
        here = command.replace("make retrain ARGS=", f"{sys.executable} -m retrain run ")
        done = subprocess.run(["bash", "-c", here], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        wait_for(lambda: served_by(run, grpcurl) == "SERVED_BY_LIGHTFM", interval_s=0.2)
