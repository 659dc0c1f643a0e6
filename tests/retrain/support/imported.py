"""Data sets as their authors publish them, and what an import makes of them."""

import gzip
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from retrain.data.exports import list_days
from retrain.importers.datasets import Imported, import_data
from retrain.importers.layouts import Columns, find_layout, plain_file
from servicekit.storage.object_store import FileStore

NOON = 1_362_139_200
"""2013-03-01T12:00:00Z in seconds."""


def imported(source: Path, output: Path, **options: Any) -> Imported:
    layout = find_layout(source)
    assert layout
    return import_data(layout, output, **options)


def rows(output: Path) -> list[tuple[Any, ...]]:
    """Return all interactions in the order of the files."""
    files = [output / "exports" / key for day in list_days(FileStore(output / "exports")) for key in day.keys]
    return [tuple(row.values()) for file in files for row in pq.ParquetFile(file).read().to_pylist()]


def videos(output: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(output / "videos.parquet").to_pylist()
    return found


def csv_of(path: Path, *lines: str) -> Path:
    text = "\n".join([*lines, ""]).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


PLAIN = Columns(user="who", item="what", time="when")


def plain(path: Path, output: Path, columns: Columns = PLAIN, **options: Any) -> Imported:
    return import_data(plain_file(path, columns, ",", kinds={}, kind="like"), output, **options)
