"""Small feeds for tests, written as the exports of a real one."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from retrain.data.duckdb_session import statement
from retrain.data.exports import MARKER
from retrain.data.file_links import FileLinks
from retrain.data.input_views import InputViews

SCHEMA = pa.schema(
    {
        "userId": pa.string(),
        "videoId": pa.string(),
        "interactionType": pa.string(),
        "watchTime": pa.int64(),
        "timestamp": pa.string(),
    }
)
HISTORY_SCHEMA = pa.schema(
    {
        "userId": pa.string(),
        "lastWatchedAt": pa.timestamp("us", "UTC"),
        "watched": pa.list_(pa.string()),
        "liked": pa.list_(pa.string()),
        "longWatched": pa.list_(pa.string()),
    }
)
VIDEO_SCHEMA = pa.schema(
    {
        "videoId": pa.string(),
        "authorId": pa.string(),
        "tags": pa.list_(pa.string()),
        "durationMs": pa.int64(),
        "uploadDate": pa.string(),
    }
)
DAY = datetime(2026, 3, 1, tzinfo=UTC)
"""The first day of small feeds."""


def due_day() -> date:
    """Return the newest day that the schedule runs by now: until two at night (UTC), the one before yesterday."""
    return (datetime.now(UTC) - timedelta(hours=2)).date() - timedelta(days=1)


def at(hours: float) -> str:
    """Return the ISO 8601 time so many hours after the first day's beginning."""
    return (DAY + timedelta(hours=hours)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def row(user: Any, video: Any, kind: Any = "watch", watch_ms: Any = 20_000, time: Any = None) -> tuple[Any, ...]:
    """Return one exported row, at noon of the first day unless told."""
    return (user, video, kind, watch_ms, at(12) if time is None else time)


def write_day(folder: Path, day: str, rows: Iterable[Sequence[Any]], *, marked: bool = False) -> Path:
    """Write a day's export and return its file."""
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    path = folder / day / "interactions-0000.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(zip(SCHEMA.names, map(list, columns), strict=True)), schema=SCHEMA), path)
    if marked:
        (path.parent / MARKER).touch()
    return path


def write_history(folder: Path, entries: Iterable[Mapping[str, Any]]) -> Path:
    """Write a history file and return it."""
    return _write(folder / "history.parquet", entries, HISTORY_SCHEMA)


def write_videos(folder: Path, entries: Iterable[Mapping[str, Any]]) -> Path:
    """Write a catalogue and return it."""
    return _write(folder / "videos.parquet", entries, VIDEO_SCHEMA)


def _write(path: Path, entries: Iterable[Mapping[str, Any]], schema: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(entries), schema=schema), path)
    return path


@contextmanager
def input_views() -> Iterator[tuple[InputViews, Any]]:
    """Yield views of files, and the connection that they are of."""
    with tempfile.TemporaryDirectory() as folder, FileLinks(Path(folder)) as links, duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(statement("numbers"))
        yield InputViews(connection, links), connection


def check_columns(path: Path, columns: Mapping[str, str]) -> None:
    """Raise RunError unless the file has these columns."""
    with input_views() as (views, _):
        views.parquet("checked", [path], columns)


def read_rows(paths: Sequence[Path], columns: Mapping[str, str]) -> list[tuple[Any, ...]]:
    """Return the rows of files as a run reads them, sorted."""
    with input_views() as (views, connection):
        views.parquet("wanted", paths, columns)
        return sorted(connection.execute("FROM wanted").fetchall(), key=repr)
