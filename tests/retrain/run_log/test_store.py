"""The log of runs and the lock, on a real Postgres and on files."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from bridge.postgres.migrate import migrate
from retrain.commands.status import status_table
from retrain.errors import Reason, RunError
from retrain.run_log.row import RunRow, State
from retrain.run_log.store import FileRuns, PostgresRuns, Runs
from retrain.scheduling import lock as lock_module
from retrain.scheduling.lock import KEY, LocalLock, PostgresLock
from retrain.scheduling.tracked_run import store_failures
from servicekit.storage.object_store import FileStore
from tests.support.pgbouncer import pgbouncer

pytestmark = pytest.mark.peer

NOW = datetime(2026, 3, 5, 2, 0, 0, 123456, tzinfo=UTC)
LEASE_S = 9.0
"""Renewed so often that those who want the lock soon see that somebody holds it."""


@pytest.fixture(scope="module")
def database(postgres_url: str) -> str:
    migrate(postgres_url)
    return postgres_url


@pytest.fixture(params=["postgres", "files"])
def runs(request: pytest.FixtureRequest, tmp_path: Path) -> Runs:
    if request.param == "files":
        return FileRuns(tmp_path / "runs")
    conninfo = request.getfixturevalue("database")
    with psycopg.connect(conninfo) as connection:
        connection.execute("DELETE FROM retrain_runs")
    return PostgresRuns(conninfo)


def begun(minutes: int = 0) -> RunRow:
    begin = NOW + timedelta(minutes=minutes)
    return RunRow(run_id=uuid4(), run_date=date(2026, 3, 4), started_at=begin, heartbeat_at=begin)


def ended(row: RunRow, state: State = State.SUCCEEDED) -> RunRow:
    return row.model_copy(
        update={
            "state": state,
            "ended_at": row.started_at + timedelta(seconds=90),
            "interactions": 12_345,
            "version": "20260305T000000Z-1-2",
            "stage_seconds": {"fit": 60.5},
            "quality": {"lightfm_prior.ndcg@20": 0.0912},
        }
    )


def test_a_run_is_read_back_as_it_was_saved(runs: Runs) -> None:
    first, second = begun(), begun(minutes=1)
    runs.save(first)
    runs.save(ended(first))
    runs.save(second)
    assert runs.recent(10) == [second, ended(first)]
    assert runs.recent(1) == [second]
    assert runs.unlogged() == [ended(first)]
    runs.save(ended(first).model_copy(update={"logged_at": NOW}))
    assert runs.unlogged() == []


def test_a_beat_is_kept_and_orphans_are_ended(runs: Runs) -> None:
    row = begun()
    runs.save(row)
    later = NOW + timedelta(minutes=5)
    runs.beat(row.run_id, later)
    assert runs.recent(1)[0].heartbeat_at == later
    assert runs.end_orphans(later) == 1
    (found,) = runs.recent(10)
    assert (found.state, found.reason, found.ended_at) == (State.FAILED, "killed", later)
    assert runs.end_orphans(later) == 0


def test_the_table_lets_only_one_run_be_under_way(database: str) -> None:
    runs = PostgresRuns(database)
    runs.end_orphans(NOW)
    runs.save(begun())
    with pytest.raises(RunError, match="retrain_runs_one_running"):
        runs.save(begun())
    runs.end_orphans(NOW)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("quality", "('{\"a\": 1' || repeat('0', 5000) || '}')::jsonb"),
        ("quality", "(repeat('[', 3000) || repeat(']', 3000))::jsonb"),
        ("stage_seconds", "'{\"a\": null}'"),
        ("run_date", "'infinity'"),
        ("started_at", "'infinity'"),
    ],
)
def test_an_odd_row_hides_no_other(database: str, column: str, value: str) -> None:
    """Other programs may write to the table: what is no run is passed over, and the nightly runs go on."""
    runs, good, odd = PostgresRuns(database), ended(begun()), ended(begun(1))
    with psycopg.connect(database) as connection:
        connection.execute("DELETE FROM retrain_runs")
    runs.save(good)
    runs.save(odd)
    with psycopg.connect(database) as connection:
        change = f"UPDATE retrain_runs SET {column} = {value} WHERE run_id = %s"  # noqa: S608  # constants
        connection.execute(change, [odd.run_id])
    assert runs.recent(5) == [good]
    assert runs.unlogged() == [good]


def test_a_missing_table_or_server_is_one_line(postgres_server: object, tmp_path: Path) -> None:
    empty = postgres_server.create_database(f"test_{uuid4().hex}")  # type: ignore[attr-defined]  # a fixture's
    with pytest.raises(RunError, match=r"^the table retrain_runs is missing: python -m bridge migrate$"):
        PostgresRuns(empty).recent(1)
    nowhere = f"postgresql:///x?host={tmp_path}"
    for call in (lambda: PostgresRuns(nowhere).recent(1), lambda: PostgresLock(nowhere)):
        with pytest.raises(RunError) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_runs_are_listed_for_people() -> None:
    rejected = ended(begun(), State.REJECTED).model_copy(update={"reason": "quality", "message": "not better"})
    lines = status_table([begun(minutes=2), rejected], NOW + timedelta(minutes=3)).splitlines()
    assert lines[1].split("  ")[0] == "2026-03-05 02:02:00"
    assert lines[1].endswith("  last sign of life 60 s ago")
    words = "2026-03-05 02:00:00 2026-03-04 rejected 90.0 s 12,345 0.0912 quality: not better"
    assert lines[2].split() == words.split()


@pytest.fixture(params=["postgres", "files"])
def take(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], "PostgresLock | LocalLock"]:
    if request.param == "files":
        return lambda: LocalLock(tmp_path / "lock")
    conninfo = request.getfixturevalue("database")
    return lambda: PostgresLock(conninfo)


def test_one_holds_the_lock_until_it_is_released(take: Callable[[], "PostgresLock | LocalLock"]) -> None:
    lock = take()
    lock.check()
    with pytest.raises(RunError) as caught:
        take()
    assert caught.value.reason is Reason.BUSY
    lock.release()
    other = take()
    other.check()
    other.release()


def test_a_lock_that_somebody_else_took_is_noticed(database: str) -> None:
    """As after this process hung for longer than its lease."""
    lock = PostgresLock(database)
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE retrain_lease SET expires_at = '-infinity'")
    other = PostgresLock(database)
    with pytest.raises(RunError, match="the lock was lost") as caught:
        lock.check()
    assert caught.value.reason is Reason.LOCK
    lock.release()
    other.check()
    other.release()


def test_a_lock_outlives_its_time_where_nobody_wants_it(database: str) -> None:
    """As after an outage of Postgres: nobody can have trained meanwhile."""
    lock = PostgresLock(database, lease_s=LEASE_S)
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE retrain_lease SET expires_at = '-infinity'")
    lock.check()
    with pytest.raises(RunError, match=r"^another run is under way: process \d+ of "):
        PostgresLock(database)
    lock.release()


def test_a_run_of_the_release_before_keeps_others_out(database: str) -> None:
    """It holds a session's lock."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [KEY])
        with pytest.raises(RunError, match=r"^another run is under way: of an older program$"):
            PostgresLock(database)
    PostgresLock(database).release()


@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
def test_one_holds_the_lock_through_a_pooler(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Of many that want it at once, each by a connection to a session that all share."""
    monkeypatch.setattr(lock_module, "SETTLED_S", 0.5)
    with pgbouncer(tmp_path, database, mode=mode, pool_size=1) as through, ThreadPoolExecutor(8) as threads:

        def take(_: int) -> PostgresLock | None:
            try:
                return PostgresLock(through, lease_s=LEASE_S)
            except RunError as failure:
                if failure.reason is not Reason.BUSY:
                    raise
                return None

        for _ in range(2):
            locks = [lock for lock in threads.map(take, range(8)) if lock]
            assert len(locks) == 1
            locks[0].check()
            locks[0].release()


@pytest.mark.parametrize("kind", ["postgres", "files"])
def test_the_lock_of_a_killed_process_is_free(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "lock"
    conninfo = request.getfixturevalue("database") if kind == "postgres" else None
    program = (
        "import sys, time; from pathlib import Path; from retrain.scheduling import lock as locks; "
        "locks.LEASE_S = 2.0; "
        "take_lock = locks.take_lock; "
        f"lock = take_lock({conninfo!r}, Path({str(path)!r})); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3])
    assert holder.stdout
    with holder.stdout:
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
        holder.wait()
    lock = PostgresLock(conninfo) if conninfo else LocalLock(path)
    lock.check()
    lock.release()


def test_an_object_that_goes_meanwhile_is_a_failure_of_the_store(tmp_path: Path) -> None:
    """As when a day is exported anew while a run reads it."""
    with pytest.raises(RunError, match=r"/2026-03-04/a\.parquet was removed meanwhile") as caught, store_failures():
        FileStore(tmp_path).read("2026-03-04/a.parquet")
    assert caught.value.reason is Reason.STORE
