"""Imports a data set into Postgres, each file once, so that trending has a past at the start."""

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias

import duckdb
import psycopg
from psycopg import sql

from deploy.local.child_process import ChildError
from deploy.local.data_folder import DataSet
from retrain.data.columns import INTERACTIONS, VIDEOS
from retrain.data.duckdb_session import DuckDbSession
from retrain.data.exports import midnight
from retrain.data.input_files import mended
from retrain.data.kinds_table import create_kinds
from retrain.errors import RunError

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

BLOCK_BYTES: Final = 1 << 20

IMPORTS: Final = "CREATE TABLE IF NOT EXISTS local_imports (file text PRIMARY KEY)"
MEMORY: Final = "1GiB"
INTERACTION_COLUMNS: Final = ("user_id", "video_id", "interaction_type", "watch_time_ms", "occurred_at")
VIDEO_COLUMNS: Final = ("video_id", "author_id", "tags", "duration_ms", "published_at")
INCOMING: Final = """
CREATE TEMP TABLE incoming_videos AS
SELECT video_id, author_id, tags, duration_ms, published_at FROM videos WITH NO DATA
"""
KEEP_VIDEOS: Final = """
INSERT INTO videos (video_id, author_id, tags, duration_ms, published_at)
SELECT DISTINCT ON (video_id) * FROM incoming_videos
ON CONFLICT (video_id) DO UPDATE SET author_id = excluded.author_id, tags = excluded.tags,
    duration_ms = excluded.duration_ms, published_at = excluded.published_at
"""


@dataclass(slots=True)
class Seeded:
    """Numbers of the imported rows, and of those left out."""

    rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Rows that were not, by what is wrong with them."""


def seed(url: str, data: DataSet) -> Seeded:
    """Import the files that were not imported yet; ChildError for a bad file."""
    seeded = Seeded()
    days = data.days
    until = midnight(days[-1].day + timedelta(days=1)) if days else midnight(date.min)
    with psycopg.connect(url) as connection:
        connection.execute(IMPORTS)
        for file in data.exports:
            if _is_new(connection, file):
                _import_interactions(connection, file, until, seeded)
        if data.videos and _is_new(connection, data.videos):
            _import_videos(connection, data.videos, seeded)
        if seeded.rows:
            connection.execute("ANALYZE user_interactions, videos")
    return seeded


def _is_new(connection: Connection, file: Path) -> bool:
    known = "INSERT INTO local_imports VALUES (%s) ON CONFLICT DO NOTHING"
    return bool(connection.execute(known, [os.fsencode(file).decode(errors="backslashreplace")]).rowcount)


def _import_interactions(connection: Connection, file: Path, until: datetime, seeded: Seeded) -> None:
    """Copy the rows of a file that a run would take: the same statements leave the same rows out."""
    with _read(file, "export_rows", INTERACTIONS) as (warehouse, lines):
        warehouse.define(until_ms=round(until.timestamp() * 1000))
        create_kinds(warehouse)
        warehouse.run("no_forgotten", "exported")
        seeded.left_out.update(dict(warehouse.rows("seeded_faults")))
        warehouse.copy("seeded_interactions", lines)
        seeded.rows += _copy(connection, lines, "user_interactions", INTERACTION_COLUMNS)


def _import_videos(connection: Connection, file: Path, seeded: Seeded) -> None:
    connection.execute(INCOMING)
    with _read(file, "video_rows", VIDEOS, lenient=True) as (warehouse, lines):
        seeded.left_out.update(dict(warehouse.rows("seeded_video_faults")))
        warehouse.copy("seeded_videos", lines)
        seeded.rows += _copy(connection, lines, "incoming_videos", VIDEO_COLUMNS)
    connection.execute(KEEP_VIDEOS)


@contextmanager
def _read(
    file: Path, view: str, columns: dict[str, str], *, lenient: bool = False
) -> Iterator[tuple[DuckDbSession, Path]]:
    """Yield a DuckDB session with a view of the file, and a path for its rows; ChildError names the file."""
    with tempfile.TemporaryDirectory(prefix="seed-") as name:
        folder = Path(name)
        try:
            with DuckDbSession(folder, memory=MEMORY, threads=len(os.sched_getaffinity(0))) as warehouse:
                warehouse.run("identifier")
                inputs = warehouse.inputs
                problem = inputs.problem(file, columns, lenient=lenient)
                readable = mended(file, columns, folder / "mended", problem) if problem else file
                inputs.parquet(view, [readable], columns, lenient=lenient)
                yield warehouse, folder / "rows.csv"
        except RunError as failure:
            raise ChildError(f"{file} cannot be read: {failure}") from None
        except duckdb.Error as error:
            raise ChildError(f"{file} cannot be read: {inputs.told(error)}") from None


def _copy(connection: Connection, lines: Path, table: str, columns: tuple[str, ...]) -> int:
    """Stream rows into a table by way of CSV, which both sides process in native code."""
    target = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
        sql.Identifier(table), sql.SQL(",").join(map(sql.Identifier, columns))
    )
    with connection.cursor() as cursor:
        with lines.open("rb") as source, cursor.copy(target) as copy:
            while block := source.read(BLOCK_BYTES):
                copy.write(block)
        return cursor.rowcount
