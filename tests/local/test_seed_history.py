"""A data set becomes history in Postgres, each file once."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import duckdb
import psycopg
import pytest

from deploy.local.child_process import ChildError
from deploy.local.data_folder import DataSet
from deploy.local.postgres import Postgres
from deploy.local.seed_history import seed

ROOT: Final = Path(__file__).parents[2]
EVENTS: Final = """
SELECT * FROM (VALUES
    ('u1', 'v1', 'watch', 61802, '2025-09-01T15:05:41.436Z'),
    ('u"2', 'v,2', 'like', NULL, '2025-09-01T23:59:59.999Z'),
    ('', 'v1', 'watch', 1, '2025-09-01T15:05:41.436Z')
) AS events ("userId", "videoId", "interactionType", "watchTime", "timestamp")
"""
ODD_EVENTS: Final = """
SELECT * FROM (VALUES
    ('u1', 'v1', 'watch', 61802, '2025-09-01T15:05:41.436Z'),
    ('u2', 'v2', 'like', NULL, '2025-09-01T15:05:41.436Z'),
    ('', 'v1', 'watch', 1, '2025-09-01T15:05:41.436Z'),
    ('u' || chr(10), 'v1', 'watch', 1, '2025-09-01T15:05:41.436Z'),
    ('u', 'v1', 'teleport', 1, '2025-09-01T15:05:41.436Z'),
    ('u', 'v1', 'watch', NULL, '2025-09-01T15:05:41.436Z'),
    ('u', 'v1', 'watch', 1, 'yesterday'),
    ('u', 'v1', 'watch', 1, 'infinity'),
    ('u', 'v1', 'watch', 1, '2999-09-01T15:05:41.436Z')
) AS events ("userId", "videoId", "interactionType", "watchTime", "timestamp")
"""
ODD_VIDEOS: Final = """
SELECT * FROM (VALUES
    ('v1', 'a1', ['good', '', 'b' || chr(0)], 'nan'::DOUBLE, 'infinity'),
    ('v2', '', NULL, 1e300, 'someday'),
    ('', NULL, NULL, NULL, NULL)
) AS videos ("videoId", "authorId", "tags", "durationMs", "uploadDate")
"""
VIDEOS: Final = """
SELECT * FROM (VALUES
    ('v1', 'a1', ['cats', 'a "quoted", tag', 'back\\slash'], 87433, '2025-08-30'),
    ('v,2', NULL, NULL, NULL, NULL)
) AS videos ("videoId", "authorId", "tags", "durationMs", "uploadDate")
"""


@pytest.fixture
def database(postgres_server: Postgres, request: pytest.FixtureRequest) -> str:
    """An empty database with the bridge's schema."""
    url = postgres_server.create_database(f"seed_{request.node.name}_{os.getpid()}"[:60])
    environment = os.environ | {"DATABASE_URL": url}
    subprocess.run([sys.executable, "-m", "bridge", "migrate"], cwd=ROOT, env=environment, check=True)
    return url


def write(path: Path, query: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    duckdb.connect().sql(query).write_parquet(str(path))


def test_history_and_catalogue_are_imported_once(tmp_path: Path, database: str) -> None:
    write(tmp_path / "exports/2025-09-01/a.parquet", EVENTS)
    write(tmp_path / "videos.parquet", VIDEOS)
    data = DataSet(tmp_path)
    assert seed(database, data).rows == 4
    assert seed(database, data).rows == 0
    with psycopg.connect(database) as connection:
        columns = "user_id, video_id, interaction_type, watch_time_ms, to_char(occurred_at, 'YYYY-MM-DD HH24:MI:SS.MS')"
        assert connection.execute(f"SELECT {columns} FROM user_interactions ORDER BY user_id").fetchall() == [  # noqa: S608  # constant
            ('u"2', "v,2", "like", 0, "2025-09-01 23:59:59.999"),
            ("u1", "v1", "watch", 61802, "2025-09-01 15:05:41.436"),
        ]
        assert connection.execute(
            "SELECT video_id, author_id, tags, duration_ms, published_at::date::text FROM videos ORDER BY video_id DESC"
        ).fetchall() == [
            ("v1", "a1", ["cats", 'a "quoted", tag', "back\\slash"], 87433, "2025-08-30"),
            ("v,2", None, [], None, None),
        ]
        topics = connection.execute("SELECT DISTINCT aggregatetype FROM interactions_outbox").fetchall()
        assert topics == [("feed.catalogue.v1",)]


def test_what_is_odd_is_left_out_and_counted(tmp_path: Path, database: str) -> None:
    """The rest goes on; also in a folder whose name looks like a pattern."""
    folder = tmp_path / "feed[12]" / "videoId=all"
    write(tmp_path / "feed1" / "videoId=all" / "exports/2025-09-01/a.parquet", EVENTS)
    write(folder / "made.parquet", ODD_EVENTS)
    (folder / "exports/2025-09-01").mkdir(parents=True)
    (folder / "made.parquet").rename(folder / "exports/2025-09-01/a[1].parquet")
    write(folder / "videos.parquet", ODD_VIDEOS)
    done = seed(database, DataSet(folder))
    assert done.rows == 4
    assert done.left_out == {
        "catalogue_video_id": 1, "future": 1, "interaction_type": 1, "timestamp": 2, "user_id": 2, "watch_time": 1
    }  # fmt: skip
    with psycopg.connect(database) as connection:
        query = "SELECT user_id, interaction_type, watch_time_ms FROM user_interactions ORDER BY user_id"
        assert connection.execute(query).fetchall() == [("u1", "watch", 61802), ("u2", "like", 0)]
        query = "SELECT video_id, tags, duration_ms FROM videos ORDER BY video_id"
        assert connection.execute(query).fetchall() == [("v1", ["good"], None), ("v2", [], None)]


def test_a_new_day_is_added(tmp_path: Path, database: str) -> None:
    write(tmp_path / "exports/2025-09-01/a.parquet", EVENTS)
    assert seed(database, DataSet(tmp_path)).rows == 2
    write(tmp_path / "exports/2025-09-02/a.parquet", EVENTS)
    assert seed(database, DataSet(tmp_path)).rows == 2


def test_a_catalogue_may_lack_columns(tmp_path: Path, database: str) -> None:
    write(tmp_path / "exports/2025-09-01/a.parquet", EVENTS)
    write(tmp_path / "videos.parquet", "SELECT 'v1' AS \"videoId\"")
    assert seed(database, DataSet(tmp_path)).rows == 3


def test_a_wrong_column_is_named_and_nothing_is_kept(tmp_path: Path, database: str) -> None:
    write(tmp_path / "exports/2025-09-01/a.parquet", EVENTS)
    wrong = tmp_path / "exports/2025-09-02/a.parquet"
    write(wrong, "SELECT 'u1' AS \"user\"")
    with pytest.raises(ChildError, match=f"{wrong} cannot be read: .*column 'userId' is missing"):
        seed(database, DataSet(tmp_path))
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM user_interactions").fetchone() == (0,)


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path, database: str) -> None:
    wrong = tmp_path / "exports/2025-09-01/a.parquet"
    wrong.parent.mkdir(parents=True)
    wrong.write_text("userId,videoId\n", encoding="utf-8")
    with pytest.raises(ChildError, match=f"{wrong} cannot be read"):
        seed(database, DataSet(tmp_path))
