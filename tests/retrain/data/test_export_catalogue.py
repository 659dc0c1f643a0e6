"""The bridge's catalogue is what is trained on."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psycopg
import pyarrow.parquet as pq
import pytest

from bridge.postgres.migrate import migrate
from deploy.local.postgres import Postgres
from retrain.data.columns import VIDEOS
from retrain.data.export_catalogue import BATCH_ROWS, export_catalogue
from servicekit.storage.object_store import FileStore
from tests.retrain.support.feeds import check_columns

ROOT = Path(__file__).parents[3]


@pytest.fixture
def database(postgres_server: Postgres) -> str:
    url = postgres_server.create_database(f"test_{uuid4().hex}")
    migrate(url)
    return url


def test_videos_are_exported_as_training_reads_them(database: str, tmp_path: Path) -> None:
    """Those that are hidden are marked, themselves or with their author, and odd rows of others do no harm."""
    with psycopg.connect(database) as connection:
        connection.cursor().executemany(
            "INSERT INTO videos (video_id, author_id, tags, duration_ms, published_at, language_code, attributes)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            [
                ("v1", "a1", ["x", "ü"], 5, datetime(2026, 1, 2, tzinfo=UTC), "en", '{"n": 1.5}'),
                ("v2", "a2", [], None, None, None, "{}"),
                ("v3", None, [None, "y"], 7, None, None, "{}"),
            ],
        )
        connection.execute("UPDATE videos SET published_at = 'infinity' WHERE video_id = 'v3'")
        connection.execute("INSERT INTO author_visibility (author_id, hidden) VALUES ('a2', true)")
        connection.execute("UPDATE video_visibility SET hidden = true WHERE video_id = 'v3'")
    assert export_catalogue(database, FileStore(tmp_path)) == 3
    path = tmp_path / "videos.parquet"
    check_columns(path, VIDEOS)
    rows = pq.ParquetFile(path).read().to_pylist()
    assert [(row["videoId"], row["authorId"], row["tags"], row["durationMs"], row["hidden"]) for row in rows] == [
        ("v1", "a1", ["x", "ü"], 5, False),
        ("v2", "a2", [], None, True),
        ("v3", None, ["y"], 7, True),
    ]
    assert (rows[0]["uploadDate"], rows[0]["attributes"]) == ("2026-01-02T00:00:00.000000Z", '{"n": 1.5}')


def test_many_videos_are_streamed(database: str, tmp_path: Path) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO videos (video_id) SELECT 'v' || n FROM generate_series(1, %s) AS n", [BATCH_ROWS + 1]
        )
    assert export_catalogue(database, FileStore(tmp_path)) == BATCH_ROWS + 1


def test_the_command_writes_it_where_it_is_wanted(database: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    environment |= {"DATABASE_URL": database, "INTERACTIONS_URL": (tmp_path / "exports").as_uri()}

    def run(**more: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "retrain", "export", "--catalogue"]
        return subprocess.run(
            command, cwd=ROOT, env=environment | more, capture_output=True, text=True, check=False, timeout=60
        )

    assert run().stderr == "error: --catalogue needs CATALOGUE_URL\n"
    kept = tmp_path / "videos.parquet"
    kept.write_bytes(b"kept")
    assert "No videos, nothing is written" in run(CATALOGUE_URL=tmp_path.as_uri()).stdout
    assert kept.read_bytes() == b"kept"
    with psycopg.connect(database) as connection:
        connection.execute("INSERT INTO videos (video_id) VALUES ('v1')")
    done = run(CATALOGUE_URL=tmp_path.as_uri())
    assert (done.returncode, "Exported 1 videos" in done.stdout) == (0, True)
    assert pq.ParquetFile(kept).metadata.num_rows == 1
