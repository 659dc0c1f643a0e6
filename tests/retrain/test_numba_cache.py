"""What Numba compiled, kept on disk."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.process

MODULE: Final = """
from retrain.numba_cache import compiled

@compiled()
def doubled(number):
    return FACTOR * number

FACTOR = 2
"""
CODE: Final = "import doubling; print(doubling.doubled(21), *doubling.doubled.stats.cache_hits.values())"
COMPILED, TAKEN = "42", "42 1"


def run(folder: Path, **environment: str) -> str:
    """Call the function in a process of its own, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=os.environ | {"NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": f".:{folder}"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def kept(folder: Path) -> Path:
    (found,) = (folder / "cache").rglob("*.nbc")
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "doubling.py").write_text(MODULE, encoding="utf-8")
    return tmp_path


def test_a_second_process_takes_what_the_first_has_compiled(folder: Path) -> None:
    assert [run(folder), run(folder)] == [COMPILED, TAKEN]


def test_changed_code_is_compiled_anew(folder: Path) -> None:
    """Also where only a constant of its module has changed, and the file's size and time are as before."""
    module = folder / "doubling.py"
    assert run(folder) == COMPILED
    before = module.stat()
    module.write_text(MODULE.replace("FACTOR = 2", "FACTOR = 3"), encoding="utf-8")
    os.utime(module, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert run(folder, PYTHONDONTWRITEBYTECODE="1", PYTHONPYCACHEPREFIX=str(folder / "bytecode")) == "63"


HELPED: Final = """
import offset
from halving import halved
from retrain.numba_cache import compiled

@compiled()
def doubled(number):
    return 4 * halved(number) + offset.BY
"""
HALVING: Final = """
import numba

@numba.njit
def halved(number):
    return number // DIVISOR

DIVISOR = 2
"""


@pytest.mark.parametrize(
    ("changed", "before", "after", "result"),
    [("halving.py", "DIVISOR = 2", "DIVISOR = 1", "86"), ("offset.py", "BY = 2", "BY = 7", "47")],
)
def test_a_changed_helper_of_another_module_is_compiled_anew(
    folder: Path, changed: str, before: str, after: str, result: str
) -> None:
    """And so is a changed constant of one."""
    (folder / "doubling.py").write_text(HELPED, encoding="utf-8")
    (folder / "halving.py").write_text(HALVING, encoding="utf-8")
    (folder / "offset.py").write_text("BY = 2\n", encoding="utf-8")
    assert [run(folder), run(folder)] == [COMPILED, TAKEN]
    module = folder / changed
    module.write_text(module.read_text(encoding="utf-8").replace(before, after), encoding="utf-8")
    unwritten = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    assert run(folder, **unwritten).split()[0] == result


@pytest.mark.parametrize("left", [b"", b"\0" * 100, b"no digest\nno pickle", None])
def test_a_broken_file_is_replaced(folder: Path, left: bytes | None) -> None:
    """None: cut short in the middle."""
    run(folder)
    file = kept(folder)
    file.write_bytes(file.read_bytes()[:-1000] if left is None else left)
    assert [run(folder), run(folder)] == [COMPILED, TAKEN]


def test_what_cannot_be_kept_is_compiled_each_time(folder: Path) -> None:
    """A folder stands where the file would go, so that neither reading nor writing it works."""
    run(folder)
    file = kept(folder)
    file.unlink()
    file.mkdir()
    assert [run(folder), run(folder)] == [COMPILED, COMPILED]
    assert list(file.parent.iterdir()) == [file]


def test_it_runs_where_no_folder_can_be_written(folder: Path) -> None:
    """Containers may be read-only."""
    (folder / "__pycache__").write_text("in the way of a folder", encoding="utf-8")
    nowhere = {"NUMBA_CACHE_DIR": "", "HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null"}
    assert [run(folder, **nowhere), run(folder, **nowhere)] == [COMPILED, COMPILED]
