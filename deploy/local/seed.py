"""Puts a data set into Postgres, each file once, so that trending has a past before anybody watches anything."""

import tempfile
from pathlib import Path
from typing import Any, Final, TypeAlias

import duckdb
import psycopg
from psycopg import sql

from deploy.local.child import ChildError
from deploy.local.dataset import DataSet

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

BLOCK_BYTES: Final = 1 << 20

IMPORTS: Final = "CREATE TABLE IF NOT EXISTS local_imports (file text PRIMARY KEY)"

INTERACTIONS: Final = """
SELECT "userId" AS user_id, "videoId" AS video_id, "interactionType" AS interaction_type,
       coalesce(CAST("watchTime" AS BIGINT), 0) AS watch_time_ms, CAST("timestamp" AS TIMESTAMPTZ) AS occurred_at
FROM read_parquet(?) WHERE "userId" <> '' AND "videoId" <> '' AND "interactionType" <> ''
"""
INTERACTION_COLUMNS: Final = ("user_id", "video_id", "interaction_type", "watch_time_ms", "occurred_at")

# Columns that a catalogue lacks are null.
VIDEOS: Final = """
SELECT "videoId" AS video_id, "authorId" AS author_id,
       '{' || array_to_string(list_transform(coalesce("tags", []), lambda tag: '"' || replace(replace(
           CAST(tag AS VARCHAR), '\\', '\\\\'), '"', '\\"') || '"'), ',') || '}' AS tags,
       CAST("durationMs" AS BIGINT) AS duration_ms, CAST("uploadDate" AS TIMESTAMPTZ) AS published_at
FROM (
    SELECT NULL::VARCHAR AS "authorId", NULL::VARCHAR[] AS "tags", NULL::BIGINT AS "durationMs",
           NULL::VARCHAR AS "uploadDate" WHERE false
    UNION ALL BY NAME SELECT * FROM read_parquet(?)
)
WHERE "videoId" IS NOT NULL
"""
VIDEO_COLUMNS: Final = ("video_id", "author_id", "tags", "duration_ms", "published_at")
KEEP_VIDEOS: Final = """
INSERT INTO videos (video_id, author_id, tags, duration_ms, published_at)
SELECT DISTINCT ON (video_id) * FROM incoming_videos
ON CONFLICT (video_id) DO UPDATE SET author_id = excluded.author_id, tags = excluded.tags,
    duration_ms = excluded.duration_ms, published_at = excluded.published_at
"""


def seed(url: str, data: DataSet) -> int:
    """Import the files that were not imported yet, and return the number of new rows; ChildError for a bad file."""
    with psycopg.connect(url) as connection:
        connection.execute(IMPORTS)
        rows = sum(_once(connection, file, _import_interactions) for file in data.exports)
        if data.videos:
            rows += _once(connection, data.videos, _import_videos)
        if rows:
            connection.execute("ANALYZE user_interactions, videos")
    return rows


def _once(connection: Connection, file: Path, imports: Any) -> int:
    known = "INSERT INTO local_imports VALUES (%s) ON CONFLICT DO NOTHING"
    if not connection.execute(known, [str(file)]).rowcount:
        return 0
    rows: int = imports(connection, file)
    return rows


def _import_interactions(connection: Connection, file: Path) -> int:
    return _copy(connection, file, INTERACTIONS, "user_interactions", INTERACTION_COLUMNS)


def _import_videos(connection: Connection, file: Path) -> int:
    connection.execute("CREATE TEMP TABLE incoming_videos AS SELECT * FROM videos WITH NO DATA")
    rows = _copy(connection, file, VIDEOS, "incoming_videos", VIDEO_COLUMNS)
    connection.execute(KEEP_VIDEOS)
    return rows


def _copy(connection: Connection, file: Path, query: str, table: str, columns: tuple[str, ...]) -> int:
    """Stream a query on a parquet file into a table by way of CSV, which both sides handle in native code."""
    with tempfile.TemporaryDirectory() as scratch:
        lines = Path(scratch) / "rows.csv"
        _write_csv(file, query, lines)
        target = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
            sql.Identifier(table), sql.SQL(",").join(map(sql.Identifier, columns))
        )
        with connection.cursor() as cursor:
            with lines.open("rb") as source, cursor.copy(target) as copy:
                while block := source.read(BLOCK_BYTES):
                    copy.write(block)
            return cursor.rowcount


def _write_csv(file: Path, query: str, lines: Path) -> None:
    with duckdb.connect() as engine:
        engine.execute("SET TimeZone = 'UTC'")
        try:
            target = str(lines).replace("'", "''")
            engine.execute(f"COPY ({query}) TO '{target}' (FORMAT csv, HEADER false)", [str(file)])  # a path of our own
        except duckdb.Error as error:
            raise ChildError(f"{file} cannot be read: {str(error).splitlines()[0].partition(': ')[2]}") from None
