"""What the columns of each input file must be."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from retrain.failure import Reason, RunFailure

INTERACTIONS: Final = {
    "userId": "string",
    "videoId": "string",
    "interactionType": "string",
    "watchTime": "integer",
    "timestamp": "string",
}
"""Exports: `watchTime` in milliseconds, `timestamp` ISO 8601. More columns do no harm."""

VIDEOS: Final = {
    "videoId": "string",
    "authorId": "string",
    "tags": "list of string",
    "durationMs": "integer",
    "uploadDate": "string",
}
"""The catalogue."""

HISTORY: Final = {
    "userId": "string",
    "lastWatchedAt": "timestamp",
    "watched": "list of string",
    "liked": "list of string",
    "longWatched": "list of string",
}
"""What viewers did before the exports begin."""


def check_columns(path: Path, columns: Mapping[str, str]) -> None:
    """Raise RunFailure, naming file and column, unless the file has these columns with these types."""
    try:
        found = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise RunFailure(Reason.SCHEMA, f"{_name(path)} is not a parquet file: {_first_line(error)}") from None
    for column, kind in columns.items():
        if column not in found.names:
            raise RunFailure(Reason.SCHEMA, f"{_name(path)}: column {column!r} is missing, it has {found.names}")
        actual = found.field(column).type
        if not _is(actual, kind):
            raise RunFailure(Reason.SCHEMA, f"{_name(path)}: column {column!r} is {actual}, must be {kind}")


def find_unreadable(paths: list[Path], columns: Mapping[str, str]) -> RunFailure | None:
    """Read the files batch by batch and return what is wrong with the first one that cannot be read."""
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                for _ in file.iter_batches(columns=list(columns)):
                    pass
        except (pa.ArrowException, OSError) as error:
            return RunFailure(Reason.SCHEMA, f"{_name(path)} cannot be read: {_first_line(error)}")
    return None


def _is(actual: Any, kind: str) -> bool:
    if kind.startswith("list of "):
        return (types.is_list(actual) or types.is_large_list(actual)) and _is(actual.value_type, kind[8:])
    if types.is_dictionary(actual):
        return _is(actual.value_type, kind)
    checks = {
        "string": (types.is_string, types.is_large_string),
        "integer": (types.is_integer,),
        "timestamp": (types.is_timestamp,),
    }
    return any(check(actual) for check in checks[kind])


def _name(path: Path) -> str:
    """Return the end of the path that says which file it is: a day's file stands below its day."""
    return "/".join(path.parts[-2:])


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
