"""A Postgres that is stopped, as by a frozen machine: it takes connections and never answers."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from bridge.postgres.migrate import migrate
from deploy.local.postgres import Postgres
from retrain import postgres
from retrain.errors import Reason, RunError
from retrain.run_log.store import PostgresRuns
from retrain.scheduling.lock import PostgresLock
from tests.retrain.support.command import retrain
from tests.retrain.support.processes import live, rest_of_lines, running, wait_for_line

IMPATIENT: Final = (
    "import sys; from retrain import __main__, postgres; postgres.CONNECT_S, postgres.ANSWER_S = 2, 1.0; "
    "from retrain.scheduling import lock; lock.LEASE_S = 6.0; "  # for which the next run waits
    "sys.exit(__main__.main(['run']))"
)


@contextmanager
def stopped(server: Postgres) -> Iterator[None]:
    """Let the server and all who serve connections hang."""
    assert server.child
    server.child.suspend()
    try:
        yield
    finally:
        server.child.resume()


def test_a_run_whose_lock_nobody_can_tell_of_does_not_publish_and_ends(
    copied: dict[str, str], tmp_path: Path, own_postgres: Postgres
) -> None:
    url = own_postgres.url("videowindow")
    migrate(url)
    before = live(tmp_path)
    with running("-c", IMPATIENT, **copied, DATABASE_URL=url) as process:
        wait_for_line(process, "interactions.prepared")
        with stopped(own_postgres):
            lines = rest_of_lines(process)
            assert process.wait(60) == 1
    assert lines[-1].startswith("error: the lock was lost: another run may be under way (Postgres: ")
    assert any("runs.not_kept" in line for line in lines)
    assert live(tmp_path) == before
    assert retrain("run", **copied, DATABASE_URL=url).returncode == 0
    assert live(tmp_path) != before
    states = [row.state for row in PostgresRuns(url).recent(5)]
    assert states == ["succeeded", "failed"]


def test_whatever_is_asked_of_it_ends(own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that were there before, and such that are made meanwhile."""
    url = own_postgres.url("videowindow")
    migrate(url)
    lock, runs = PostgresLock(url), PostgresRuns(url)
    monkeypatch.setattr(postgres, "ANSWER_S", 0.3)
    monkeypatch.setattr(postgres, "CONNECT_S", 2)
    with stopped(own_postgres):
        begin = time.monotonic()
        for reason, call in (
            (Reason.LOCK, lock.check),
            (Reason.LOCK, lambda: PostgresLock(url)),
            (Reason.RUNS, lambda: runs.recent(1)),
        ):
            with pytest.raises(RunError) as caught:
                call()
            assert caught.value.reason is reason
        assert time.monotonic() - begin < 30
    lock.release()
    PostgresLock(url).release()
