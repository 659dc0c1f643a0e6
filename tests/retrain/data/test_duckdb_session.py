"""The scratch database where it differs from what its library does."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from retrain.data.duckdb_session import DuckDbSession


@pytest.fixture
def signalled() -> Iterator[None]:
    """Send this process a signal soon, whose handler ends the program."""
    before = signal.signal(signal.SIGUSR1, lambda *_: sys.exit(1))
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    yield
    timer.join()
    signal.signal(signal.SIGUSR1, before)


def ask_without_end(folder: Path) -> None:
    endless = "SELECT a.range AS video, a.range AS video_id FROM range(1000000) a, range(1000000) b"
    with DuckDbSession(folder, memory="1GiB", threads=1) as warehouse:
        warehouse.view("videos", endless)
        warehouse.rows("video_ids")


@pytest.mark.usefixtures("signalled")
def test_a_signal_during_a_statement_is_not_taken_for_a_defect(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        ask_without_end(tmp_path)
