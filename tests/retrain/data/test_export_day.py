"""What was recorded is what is exported is what is trained on."""

import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pyarrow.parquet as pq
import pytest

from bridge.postgres.migrate import migrate
from deploy.local.postgres import Postgres
from retrain.data.columns import INTERACTIONS
from retrain.data.erased_users import read_erasures
from retrain.data.export_day import BATCH_ROWS, DayNotOverError, export_day
from retrain.data.exports import choose_window, list_days
from servicekit.storage.object_store import FileStore
from tests.retrain.support.feeds import check_columns

ROOT = Path(__file__).parents[3]
DAY = date(2026, 3, 14)
START = datetime(2026, 3, 14, tzinfo=UTC)


@pytest.fixture
def database(postgres_server: Postgres) -> str:
    url = postgres_server.create_database(f"test_{uuid4().hex}")
    migrate(url)
    return url


def _record(url: str, rows: list[tuple[str, str, str, int, datetime]]) -> None:
    with psycopg.connect(url) as connection:
        connection.cursor().executemany(
            "INSERT INTO user_interactions (user_id, video_id, interaction_type, watch_time_ms, occurred_at)"
            " VALUES (%s, %s, %s, %s, %s)",
            rows,
        )


def test_recorded_is_exported_is_trained_on(database: str, tmp_path: Path) -> None:
    """Every row of the day and no other, to the millisecond, in files that training accepts as they are."""
    inside = [
        ("u1", "v1", "watch", 1234, START),
        ("ü2", "v2", "like", 0, START + timedelta(hours=12, milliseconds=7)),
        ("u1", "v3", "rating", 0, START + timedelta(days=1) - timedelta(milliseconds=1)),
    ]
    before, after = START - timedelta(milliseconds=1), START + timedelta(days=1)
    outside = [("no", "v", "watch", 1, before), ("no", "v", "like", 0, after)]
    _record(database, [*inside, *outside])
    store = FileStore(tmp_path / "exports")
    exported = export_day(database, store, DAY)
    assert (exported.rows, exported.files) == (3, ("2026-03-14/interactions-0000.parquet",))
    window = choose_window(store, last=DAY, length=1, marker_required=True)
    paths = [store.root / key for key in window.keys]
    for path in paths:
        check_columns(path, INTERACTIONS)
    found = [row for path in paths for row in pq.read_table(path).to_pylist()]
    expected = [
        (user, video, kind, watched, at.isoformat(timespec="milliseconds").replace("+00:00", "Z"))
        for user, video, kind, watched, at in inside
    ]
    assert [tuple(row.values()) for row in found] == expected


def test_repeated_export_is_the_same(database: str, tmp_path: Path) -> None:
    """Byte for byte; a later one takes in what came late, and removes files that are no longer needed."""
    store = FileStore(tmp_path)
    count = 2 * BATCH_ROWS + 1
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO user_interactions (user_id, video_id, interaction_type, occurred_at)"
            " SELECT 'u' || n, 'v', 'watch', %s::timestamptz + make_interval(secs => n)"
            " FROM generate_series(1, %s) AS n",
            [START, count],
        )
    assert len(export_day(database, store, DAY, file_rows=BATCH_ROWS).files) == 3
    first = export_day(database, store, DAY)
    content = (tmp_path / first.files[0]).read_bytes()
    assert (first.rows, len(first.files)) == (count, 1)
    assert Counter(path.name for path in (tmp_path / "2026-03-14").iterdir()) == Counter(
        ["_SUCCESS", "interactions-0000.parquet"]
    )
    assert export_day(database, store, DAY) == first
    assert (tmp_path / first.files[0]).read_bytes() == content
    _record(database, [("late", "v", "like", 0, START)])
    assert export_day(database, store, DAY).rows == count + 1


def test_an_odd_time_of_an_erasure_stops_no_export(database: str, tmp_path: Path) -> None:
    """Whatever Postgres takes for a time, days are exported, and the list that is written can be read back."""
    times = ["infinity", "-infinity", "4000-01-01 BC", "290000-01-01", "2026-03-14 12:00Z"]
    with psycopg.connect(database) as connection:
        for number, time in enumerate(times):
            connection.execute("INSERT INTO erased_users VALUES (%s, %s)", [bytes([number]), time])
    store = FileStore(tmp_path)
    for _ in range(2):
        export_day(database, store, DAY)
    last = 253_402_214_400_000
    noon = round(START.timestamp() * 1000) + 12 * 3_600_000
    assert [*read_erasures(store).values()] == [last, 0, 0, last, noon]


def test_failed_export_is_not_complete(database: str, tmp_path: Path) -> None:
    """A day that was complete is not while it is written anew, so nobody trains on half of it."""
    store = FileStore(tmp_path)
    export_day(database, store, DAY)
    with pytest.raises(psycopg.OperationalError):
        export_day("postgresql://u@127.0.0.1:1/x", store, DAY)
    assert [day.marked for day in list_days(store)] == [False]


def test_day_without_interactions_is_complete_and_empty(database: str, tmp_path: Path) -> None:
    exported = export_day(database, FileStore(tmp_path), DAY)
    assert (exported.rows, len(exported.files)) == (0, 1)


def test_day_must_be_over(database: str, tmp_path: Path) -> None:
    with pytest.raises(DayNotOverError):
        export_day(database, FileStore(tmp_path), DAY, now=START + timedelta(hours=23))


def test_command(database: str, tmp_path: Path) -> None:
    """From the command line: what was written, and errors in one line."""
    _record(database, [("u", "v", "watch", 1, START)])
    environment = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    environment |= {"DATABASE_URL": database, "INTERACTIONS_URL": tmp_path.as_uri()}

    def run(day: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "retrain", "export", "--date", day]
        return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)

    done = run("2026-03-14")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Exported 1 interactions of 2026-03-14")
    assert (tmp_path / "2026-03-14" / "_SUCCESS").exists()
    early = run("2999-01-01")
    assert (early.returncode, early.stderr) == (2, "error: 2999-01-01 is not over\n")
