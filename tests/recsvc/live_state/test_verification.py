"""What the end of a check's process says of the store."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recsvc.live_state import verification
from recsvc.live_state.verification import Verdict, check, digest
from tests.recsvc.support.live_stores import fill, new_store, overwrite

pytestmark = pytest.mark.process

run = subprocess.run


def ending(code: str) -> Callable[..., Any]:
    """Return what starts another program in the place of the check."""
    return lambda _, **named: run([sys.executable, "-c", code], **named)


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", Verdict.DAMAGED),
        ("import os, signal; os.kill(os.getpid(), signal.SIGBUS)", Verdict.DAMAGED),
        ("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", Verdict.DAMAGED),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", Verdict.UNKNOWN),
        ("raise ValueError", Verdict.DAMAGED),
        ("raise SystemExit(4)", Verdict.UNKNOWN),
        ("print('why'); raise SystemExit(3)", Verdict.DAMAGED),
        ("pass", Verdict.SOUND),
    ],
)
def test_what_a_check_dies_of_is_damage_unless_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, verdict: Verdict
) -> None:
    store = new_store(tmp_path)
    monkeypatch.setattr(subprocess, "run", ending(code))

    found, why = check(tmp_path / store.current())

    assert found is verdict
    assert bool(why) == (verdict is not Verdict.SOUND and "4" not in code)


def test_a_check_that_is_not_done_says_nothing_against_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_store(tmp_path)
    monkeypatch.setattr(verification, "WAIT", 0)

    assert check(tmp_path / store.current())[0] is Verdict.UNKNOWN


def test_a_digest_tells_any_changed_byte(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    fill(store, range(100))
    folder = tmp_path / store.current()
    before = digest(folder)

    overwrite(folder / "data.mdb", 4096 * 5 + 7, b"?")

    assert digest(folder) != before


def test_a_signal_number_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = new_store(tmp_path)
    monkeypatch.setattr(subprocess, "run", ending("import os; os.kill(os.getpid(), 9)"))

    assert str(int(signal.SIGKILL)) in check(tmp_path / store.current())[1]
