"""Exports are rewritten without the users who were erased."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrain.__main__ import main
from retrain.data.erased_users import SERVERS_KEY, add_erasures, encode
from retrain.data.forgetting import forget
from servicekit.storage.object_store import FileStore
from servicekit.user_fingerprint import user_fingerprint
from tests.retrain.support.feeds import DAY, at, row, write_day

NOON_MS = round(DAY.timestamp() * 1000) + 12 * 3_600_000
ERASED = {user_fingerprint("gone"): NOON_MS, user_fingerprint("back"): NOON_MS}


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    folder = tmp_path / "exports"
    write_day(
        folder, "2026-03-01",
        [row("gone", "v1"), row("stays", "v1"), row("back", "v1"), row("back", "v2", time=at(13))], marked=True,
    )  # fmt: skip
    write_day(folder, "2026-03-02", [row("stays", "v3")], marked=True)
    return folder


def users(path: Path) -> list[str]:
    found: list[str] = pq.read_table(path).column("userId").to_pylist()
    return found


def test_only_their_rows_are_taken_out(exports: Path) -> None:
    """Up to the time of the erasure; other days' files are not touched, and a second time there is nothing to do."""
    path, other = exports / "2026-03-01/interactions-0000.parquet", exports / "2026-03-02/interactions-0000.parquet"
    schema, before = pq.read_schema(path), other.stat().st_mtime_ns
    store = FileStore(exports)
    expected = [("2026-03-01/interactions-0000.parquet", 2, "")]
    for dry_run in (True, False):
        assert [(one.key, one.rows, one.problem) for one in forget(store, ERASED, dry_run=dry_run)] == expected
        assert users(path) == (["gone", "stays", "back", "back"] if dry_run else ["stays", "back"])
    assert [*forget(store, ERASED)] == []
    assert pq.read_schema(path) == schema
    assert other.stat().st_mtime_ns == before
    assert (exports / "2026-03-01/_SUCCESS").exists()


def test_a_file_that_cannot_be_read_does_not_keep_the_others(exports: Path) -> None:
    (exports / "2026-02-28").mkdir()
    (exports / "2026-02-28/broken.parquet").write_bytes(b"PAR1 no parquet")
    pq.write_table(pa.table({"other": [1]}), exports / "2026-02-28/columns[1].parquet")
    broken, columns, done = forget(FileStore(exports), ERASED)
    assert broken.problem
    assert columns.problem == "it has no columns userId and timestamp"
    assert (done.rows, done.problem) == (2, "")


def test_timestamps_of_any_kind_are_understood(tmp_path: Path) -> None:
    """What has none is taken out: nobody knows that it came later."""
    folder = tmp_path / "2026-03-01"
    folder.mkdir(parents=True)
    for name, kind, values in (
        ("text", pa.string(), ["2026-03-01T13:00:00Z", "2026-03-01T11:00:00.5+00:00", "soon", None]),
        (
            "native",
            pa.timestamp("us", "UTC"),
            [datetime(2026, 3, 1, 13, tzinfo=UTC), datetime(2026, 3, 1, 11, tzinfo=UTC), None, None],
        ),
    ):
        table = pa.table({"userId": ["gone"] * 4, "timestamp": pa.array(values, kind)})
        pq.write_table(table, folder / f"{name}.parquet")
    erased = {user_fingerprint("gone"): round(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp() * 1000)}
    assert [one.rows for one in forget(FileStore(tmp_path), erased)] == [3, 3]


def test_the_command_says_what_it_removes(
    exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By both lists, that of the exports and that of the model servers."""
    models = tmp_path / "models"
    add_erasures(FileStore(exports), {user_fingerprint("gone"): NOON_MS})
    (models / SERVERS_KEY).parent.mkdir(parents=True, exist_ok=True)
    (models / SERVERS_KEY).write_bytes(encode({user_fingerprint("back"): NOON_MS}))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("INTERACTIONS_URL", exports.as_uri())
    monkeypatch.setenv("MODEL_STORE_URL", models.as_uri())
    assert main(["forget", "--dry-run"]) == 0
    assert "2 rows of erased users would be removed from the exports; 2 erased users in all" in capsys.readouterr().out
    assert main(["forget"]) == 0
    assert users(exports / "2026-03-01/interactions-0000.parquet") == ["stays", "back"]
