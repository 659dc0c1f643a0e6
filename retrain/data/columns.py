"""Defines the columns of each input file, and how each accepted type is read.

What is checked is what DuckDB says of a file, and DuckDB reads it, by position: names that differ by case or stand
there twice cannot be mixed up, and each file is cast from its own types, whatever those of the others are.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

INTERACTIONS: Final = {
    "userId": "string",
    "videoId": "string",
    "interactionType": "string",
    "watchTime": "integer",
    "timestamp": "time",
}
"""Exports: `watchTime` in milliseconds, `timestamp` ISO 8601 or a native one. More columns do no harm."""

VIDEOS: Final = {
    "videoId": "string",
    "authorId": "string",
    "tags": "list of string",
    "durationMs": "integer",
    "uploadDate": "time",
}
"""The catalogue."""

HISTORY: Final = {
    "userId": "string",
    "lastWatchedAt": "time",
    "watched": "list of string",
    "liked": "list of string",
    "longWatched": "list of string",
}
"""What users did before the exports begin."""

READ_AS: Final = {
    "string": "VARCHAR",
    "integer": "BIGINT",
    "time": "BIGINT",
    "list of string": "VARCHAR[]",
    "key": "VARCHAR",
    "moment": "VARCHAR",
    "number": "VARCHAR",
}
"""The type that a kind is read as: integers that cannot be told as -1, times as milliseconds since 1970; the last three
are text of imports, of whatever type it comes from."""

_NOTHING: Final = '"NULL"'
_WHOLE: Final = re.compile(r"U?(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT)")
_FRACTION: Final = re.compile(r"FLOAT|DOUBLE|DECIMAL\(.*\)")
_INSTANT: Final = re.compile(r"TIMESTAMP[A-Z_ ]*|DATE")


class ColumnError(Exception):
    """A column is missing, repeated, or of an unaccepted type; the message names it."""


def read_columns(found: Iterable[tuple[str, str]], columns: Mapping[str, str], *, lenient: bool = False) -> list[str]:
    """Return SQL expressions that read the columns from those of a file, which are called c0, c1 and so on.

    Args:
        found: Name and DuckDB's type of each of the file's columns, in order.
        columns: Name and kind of each column to read.
        lenient: Read what is missing as null, but for the first column.

    Raises:
        ColumnError: A column cannot be read.
    """
    held = list(found)
    names = [name for name, _ in held]
    expressions = []
    for place, (name, kind) in enumerate(columns.items()):
        if names.count(name) > 1:
            raise ColumnError(f"column {name!r} is there {names.count(name)} times")
        if name in names:
            position = names.index(name)
            expressions.append(_expression(name, kind, held[position][1], f"c{position}"))
        elif lenient and place:
            expressions.append(f"NULL::{READ_AS[kind]}")
        else:
            raise ColumnError(f"column {name!r} is missing, it has {names}")
    return expressions


def _expression(name: str, kind: str, found: str, column: str) -> str:
    if found == _NOTHING:
        return f"NULL::{READ_AS[kind]}"
    read = _READERS[kind](found, column)
    if read is None:
        raise ColumnError(f"column {name!r} is {found}, must be {_MEANT.get(kind, kind)}")
    return read


_MEANT: Final = {
    "time": "text, a date or a timestamp",
    "key": "text or an integer",
    "moment": "text, a date, a timestamp or a number",
    "number": "text or a number",
}


def _string(found: str, column: str) -> str | None:
    return column if found == "VARCHAR" else None


def _list(found: str, column: str) -> str | None:
    return f"{column}::VARCHAR[]" if found in ("VARCHAR[]", f"{_NOTHING}[]") else None


def _integer(found: str, column: str) -> str | None:
    if _WHOLE.fullmatch(found):
        return f"CASE WHEN {column} IS NOT NULL THEN coalesce(try_cast({column} AS BIGINT), -1) END"
    if _FRACTION.fullmatch(found):
        return f"CASE WHEN {column} IS NOT NULL THEN coalesce(whole({column}), -1) END"
    return None


def _time(found: str, column: str) -> str | None:
    # One without a zone is of UTC, as the session is. The end of time, `infinity`, gives null.
    if found == "VARCHAR" or _INSTANT.fullmatch(found):
        return f"epoch_ms(try_cast({column} AS TIMESTAMPTZ))"
    return None


def _key(found: str, column: str) -> str | None:
    return f"{column}::VARCHAR" if found in ("VARCHAR", "UUID") or _WHOLE.fullmatch(found) else None


def _moment(found: str, column: str) -> str | None:
    if _INSTANT.fullmatch(found):
        return f"try_cast({column} AS TIMESTAMPTZ)::VARCHAR"
    return _number(found, column)


def _number(found: str, column: str) -> str | None:
    is_number = _WHOLE.fullmatch(found) or _FRACTION.fullmatch(found)
    return f"{column}::VARCHAR" if found == "VARCHAR" or is_number else None


_READERS: Final[dict[str, Callable[[str, str], str | None]]] = {
    "string": _string,
    "list of string": _list,
    "integer": _integer,
    "time": _time,
    "key": _key,
    "moment": _moment,
    "number": _number,
}
