"""What stands in the way of a start is told in one clear line, before anything is started."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from deploy.local.child_process import ChildError
from deploy.local.data_folder import DataSet
from deploy.local.next_steps import retraining
from deploy.local.run_folder import State, state_of
from deploy.local.stack import check_address

pytestmark = pytest.mark.process

ROOT: Final = Path(__file__).parents[2]


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "deploy.local", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    done = run("--data", str(tmp_path / "none"))
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: there is no folder {tmp_path / 'none'}\n")


def test_an_empty_folder(tmp_path: Path) -> None:
    done = run("--data", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {tmp_path} holds no exports/YYYY-MM-DD/*.parquet\n"


def test_a_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ChildError) as refused:
            check_address("RECSVC_LISTEN", address)
    message = str(refused.value)
    assert message.startswith(f"{address} is in use by ")
    assert message.endswith(f" (pid {os.getpid()}): stop that, or set RECSVC_LISTEN")


@pytest.mark.parametrize("address", ["", "50051", "127.0.0.1", "127.0.0.1:grpc", ":50051"])
def test_an_address_without_host_and_port(address: str) -> None:
    with pytest.raises(ChildError, match="is not host:port"):
        check_address("RECSVC_LISTEN", address)


def test_a_second_run_on_the_same_data(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    with state.locked(), pytest.raises(ChildError, match="it runs already on"), State(tmp_path / "state").locked():
        pass
    with state.locked():
        pass


def test_every_data_set_has_a_state_of_its_own() -> None:
    folders = {state_of(path).folder for path in (None, Path("/a/data"), Path("/b/data"), Path("/a/other data"))}
    assert len(folders) == 4
    assert all(folder.parent == ROOT / ".run" for folder in folders)


def test_ports_are_kept_until_they_are_taken(tmp_path: Path) -> None:
    state = State(tmp_path)
    port = state.port("postgres")
    assert state.port("postgres") == port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert state.port("postgres") != port


def test_a_data_set_knows_its_parts(tmp_path: Path) -> None:
    day = tmp_path / "exports" / "2025-09-01"
    day.mkdir(parents=True)
    (day / "a.parquet").touch()
    (tmp_path / "exports" / "notes").mkdir()
    data = DataSet(tmp_path)
    data.check()
    assert data.exports == [day / "a.parquet"]
    assert data.videos is None
    assert data.url("exports") == f"file://{tmp_path}/exports"


def test_a_misspelt_setting_of_a_program() -> None:
    done = run(RETRAIN_FACTOR="16")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: RETRAIN_FACTOR is no setting; did you mean RETRAIN_FACTORS?\n"


def test_a_full_disk_ends_it_with_one_line(tmp_path: Path) -> None:
    """On a disk that is really full: a small one of memory, mounted where that is allowed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-o", "size=4k,nr_inodes=2"]
    if subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", disk], check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        done = run("--state", str(disk / "state"))
    finally:
        subprocess.run(["umount", disk], check=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_password_stands_in_a_file_of_its_owner(tmp_path: Path) -> None:
    """What is printed names the file."""
    state = State(tmp_path)
    state.keep_database_url("postgresql://user:sesame@127.0.0.1/database")
    assert stat.S_IMODE(state.database_url.stat().st_mode) == 0o600
    environment = dict.fromkeys(("INTERACTIONS_URL", "CATALOGUE_URL", "MODEL_SIGNING_KEY_FILE"), "x")
    environment |= {"MODEL_STORE_URL": (tmp_path / "models").as_uri(), "DATABASE_URL": "postgresql://u:sesame@h/d"}
    printed = retraining(state, environment)
    assert f"DATABASE_URL_FILE={state.database_url} make retrain" in printed
    assert "sesame" not in printed
