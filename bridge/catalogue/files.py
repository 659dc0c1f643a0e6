"""Files of videos, parquet or JSON lines, read and written in batches: memory does not grow with them."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from bridge.catalogue.rows import COLUMNS
from servicekit.files.replacement import replacing
from servicekit.inputs.json_fields import MAX_BYTES, JsonObject

BATCH: Final = 1000
PARQUET: Final = ".parquet"
LINES: Final = (".jsonl", ".ndjson", ".json")


class RowWriter(Protocol):
    """Writes rows to a file."""

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Add rows to the file."""


def read_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any] | ValueError]]:
    """Yield each row with its name, such as `line 3`, or why it is none; ValueError for a file that cannot be read."""
    suffix = _suffix(path)
    yield from _parquet_rows(path) if suffix == PARQUET else _lines(path)


@contextmanager
def writing(path: Path) -> Iterator[RowWriter]:
    """Yield what takes rows; the file is in its place once the block has ended well."""
    suffix = _suffix(path)
    with replacing(path) as beside:
        if suffix == PARQUET:
            with _parquet_writer(beside) as writer:
                yield writer
        else:
            with beside.open("w", encoding="utf-8") as file:
                yield _LineWriter(file)


def _suffix(path: Path) -> str:
    if path.suffix != PARQUET and path.suffix not in LINES:
        raise ValueError(f"{path}: its name must end in {PARQUET} or {LINES[0]}")
    return path.suffix


def _lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any] | ValueError]]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_BYTES + 1):
            number += 1
            name = f"line {number}"
            if len(line) > MAX_BYTES:
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_BYTES + 1)
                yield name, ValueError(f"is longer than {MAX_BYTES} bytes")
            elif line.strip():
                try:
                    fields = JsonObject(line)
                except ValueError as error:
                    yield name, error
                else:
                    yield name, {column: fields.value(column) for column in COLUMNS if column in fields}


def _parquet_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any] | ValueError]]:
    import pyarrow as pa  # noqa: PLC0415  # no server needs it
    import pyarrow.parquet as pq  # noqa: PLC0415  # likewise

    try:
        with path.open("rb") as file:
            table = pq.ParquetFile(file)
            names = table.schema_arrow.names
            if names.count("videoId") != 1:
                raise ValueError(f"{path}: column 'videoId' is missing, or there several times; it has {names[:50]}")
            number = 0
            for batch in table.iter_batches(BATCH, columns=[name for name in COLUMNS if names.count(name) == 1]):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {' '.join(str(error).split())}") from None


class _LineWriter:
    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


class _ParquetWriter:
    def __init__(self, writer: Any, schema: Any) -> None:
        self._writer, self._schema = writer, schema

    def write(self, rows: list[dict[str, Any]]) -> None:
        import pyarrow as pa  # noqa: PLC0415  # likewise

        self._writer.write_table(pa.Table.from_pylist(rows, self._schema))


@contextmanager
def _parquet_writer(path: Path) -> Iterator[_ParquetWriter]:
    import pyarrow as pa  # noqa: PLC0415  # likewise
    import pyarrow.parquet as pq  # noqa: PLC0415  # likewise

    texts = pa.list_(pa.string())
    schema = pa.schema(
        [
            ("videoId", pa.string()),
            ("authorId", pa.string()),
            ("tags", texts),
            ("durationMs", pa.int64()),
            ("uploadDate", pa.string()),
            ("language", pa.string()),
            ("expiresAt", pa.string()),
            ("allowedCountries", texts),
            ("deniedCountries", texts),
            ("ageRating", pa.int32()),
            ("attributes", pa.string()),
            ("embedding", pa.list_(pa.float32())),
            ("hidden", pa.bool_()),
            ("revision", pa.int64()),
        ]
    )
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        yield _ParquetWriter(writer, schema)
