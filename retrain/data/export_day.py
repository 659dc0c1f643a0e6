"""Exports a day of recorded interactions as parquet, in the layout that models are trained on.

Rows are streamed from a server-side cursor in their order, so memory does not grow with the day. The completion marker
is removed first and written last: whoever reads in between sees a day that is not complete. The same rows give the
same files, so an export may be repeated at any time, as when events of a day came late.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from retrain.data.erased_users import add_erasures
from retrain.data.exports import MARKER, midnight
from retrain.postgres import CONNECT_S
from servicekit.storage.object_store import ObjectStore

BATCH_ROWS: Final = 20_000
FILE_ROWS: Final = 5_000_000
"""Rows of a file, of which a day has as many as it needs."""
SCHEMA: Final = pa.schema(
    [
        ("userId", pa.string()),
        ("videoId", pa.string()),
        ("interactionType", pa.string()),
        ("watchTime", pa.int64()),
        ("timestamp", pa.string()),
    ]
)
_ROWS: Final = """
SELECT user_id, video_id, interaction_type, watch_time_ms,
    to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
FROM user_interactions WHERE occurred_at >= %s AND occurred_at < %s ORDER BY occurred_at, event_id
"""
# A time may be infinite, or one that the list of the erased, whose numbers have bounds, could not be read back with.
_ERASED: Final = """
SELECT mark, (
    extract(epoch FROM least(greatest(erased_at, '1970-01-01 00:00Z'), '9999-12-31 00:00Z')) * 1000
)::bigint FROM erased_users
"""


class DayNotOverError(Exception):
    """Interactions of the day can still happen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """The result of an export."""

    day: date
    rows: int
    files: tuple[str, ...]


def export_day(
    conninfo: str, store: ObjectStore, day: date, *, now: datetime | None = None, file_rows: int = FILE_ROWS
) -> Exported:
    """Write a day's interactions, the erased users, and then the day's completion marker.

    Args:
        conninfo: The database of the bridge.
        store: The folder of the days.
        day: The day, UTC.
        now: The time of day; the present when None.
        file_rows: Rows of a file at most.

    Raises:
        DayNotOverError: The day is today or in the future.
        psycopg.Error: The database cannot be read.
    """
    if (now or datetime.now(UTC)) < midnight(day + timedelta(days=1)):
        raise DayNotOverError(f"{day} is not over")
    store.delete(f"{day}/{MARKER}")
    files: list[str] = []
    rows = 0
    with (
        tempfile.TemporaryDirectory(prefix="export-") as folder,
        psycopg.connect(conninfo, connect_timeout=CONNECT_S, prepare_threshold=None) as connection,
    ):
        # One snapshot for the whole day, whatever is recorded meanwhile.
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        for path, count in _files(_batches(connection, day), Path(folder), file_rows):
            key = f"{day}/{path.name}"
            store.upload(path, key)
            path.unlink()
            files.append(key)
            rows += count
        for key in [*store.list(f"{day}/")]:
            if key not in files:
                store.delete(key)  # of an earlier export that had more files
        add_erasures(store, _erased(connection))
        marker = Path(folder) / MARKER
        marker.touch()
        store.upload(marker, f"{day}/{MARKER}")
    return Exported(day=day, rows=rows, files=tuple(files))


def read_erased(conninfo: str) -> dict[bytes, int]:
    """Return the erased users and the times (milliseconds since 1970); psycopg.Error if the database cannot be read."""
    with psycopg.connect(conninfo, connect_timeout=CONNECT_S, prepare_threshold=None) as connection:
        return _erased(connection)


def _erased(connection: "psycopg.Connection[Any]") -> dict[bytes, int]:
    return dict(connection.execute(_ERASED).fetchall())


def _batches(connection: "psycopg.Connection[Any]", day: date) -> Iterator[pa.RecordBatch]:
    with connection.cursor(name="export") as cursor:
        cursor.itersize = BATCH_ROWS
        cursor.execute(_ROWS, [midnight(day), midnight(day + timedelta(days=1))])
        while rows := cursor.fetchmany(BATCH_ROWS):
            columns = zip(*rows, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def _files(batches: Iterator[pa.RecordBatch], folder: Path, most_rows: int) -> Iterator[tuple[Path, int]]:
    """Write batches to files one after the other, at least one; yield each complete file with its number of rows."""
    number, batch = 0, next(batches, None)
    while batch is not None or number == 0:
        path, rows = folder / f"interactions-{number:04}.parquet", 0
        with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
            while batch is not None and rows < most_rows:
                writer.write_batch(batch)
                rows += batch.num_rows
                batch = next(batches, None)
        yield path, rows
        number += 1
