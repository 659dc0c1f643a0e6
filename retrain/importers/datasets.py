"""Imports data of others as exports by day, as a run reads them: `exports/YYYY-MM-DD/*.parquet`, `videos.parquet`.

Rows are sorted on disk and streamed into one day's file after the other, so memory does not grow with the data. What is
written appears when all of it is there; the same input gives the same files.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retrain.data.columns import INTERACTIONS
from retrain.data.duckdb_session import DuckDbSession
from retrain.data.export_day import SCHEMA
from retrain.data.exports import MARKER
from retrain.data.kinds_table import create_kinds
from retrain.errors import Reason, RunError
from retrain.importers.inputs import make_views
from retrain.importers.layouts import Layout
from retrain.importers.skipped_rows import MAX_LEFT_OUT, SkippedRows

RECORD: Final = "import.json"
"""Stands beside what an import wrote, and says that a later one may replace it."""
FILE: Final = "interactions-0000.parquet"
"""Of each day."""
BATCH_ROWS: Final = 100_000
GROUP_ROWS: Final = 500_000
"""Of a group of rows in a file."""
EPOCH: Final = date(1970, 1, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """The result of an import."""

    layout: str
    interactions: int
    kinds: dict[str, int]
    users: int
    videos: int
    first: date
    last: date
    days: int
    """Those that hold an interaction."""
    liked_from: float | None
    """The rating from which on something counts as liked; None where there are no ratings."""
    left_out: SkippedRows
    """Rows of interactions that were."""
    catalogue_left_out: SkippedRows
    """Rows of the catalogue that were."""

    @property
    def broken(self) -> Mapping[str, int]:
        """Return the number of rows left out, by reason."""
        return self.left_out.counts


def import_data(
    layout: Layout,
    output: Path,
    *,
    liked_from: float | None = None,
    max_left_out: float = MAX_LEFT_OUT,
    zone: str = "UTC",
    memory: str = "1GiB",
    threads: int = 2,
) -> Imported:
    """Write a layout's rows as exports, which replace those of an earlier import.

    Args:
        layout: What to read.
        output: The folder that gets `exports/` and `videos.parquet`.
        liked_from: The rating from which on something counts as liked; the median of all when None.
        max_left_out: Share of the rows that may be left out.
        zone: Time zone of times that do not name theirs.
        memory: Most memory for the database; the rest spills to disk.
        threads: Threads to use.

    Raises:
        RunError: A file cannot be read, too many rows of it cannot be used, or the folder holds somebody else's
            exports.
    """
    if (output / "exports").exists() and not (output / RECORD).exists():
        raise RunError(Reason.EXPORTS, f"{output}/exports is there already, and not of an import")
    output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".import-", dir=output)))
        warehouse = stack.enter_context(DuckDbSession(scratch, memory=memory, threads=threads, zone=zone))
        try:
            left_out, rated = _judge(layout, warehouse, liked_from)
            for one in left_out:
                one.check(max_left_out)
            done = _write(layout, warehouse, scratch / "made", rated, left_out)
        except duckdb.Error as error:
            raise RunError(
                Reason.SCHEMA, f"{layout.files[0].name} cannot be read: {warehouse.inputs.told(error)}"
            ) from None
        _replace(scratch / "made", output)
    return done


def _judge(
    layout: Layout, warehouse: DuckDbSession, liked_from: float | None
) -> tuple[tuple[SkippedRows, SkippedRows], float | None]:
    """Make the views `imported` and `films`; return the rows left out of each, and the rating that is a like."""
    warehouse.run("identifier", "instant")
    create_kinds(warehouse)
    lost = make_views(layout, warehouse)
    warehouse.view("raw", layout.rows)
    if layout.is_rated and liked_from is None:
        liked_from = warehouse.row("median_value")["median"]
    warehouse.define(rated=layout.is_rated, liked_from=liked_from)
    warehouse.run("imported")
    names = [*layout.inputs]
    rows = SkippedRows.of(layout.files[0].name, warehouse, "imported", lost.get(names[0]))
    films = SkippedRows(name=layout.files[-1].name)
    if layout.catalogue:
        warehouse.view("films", layout.catalogue)
        films = SkippedRows.of(layout.files[-1].name, warehouse, "films", lost.get(names[-1]))
    return (rows, films), liked_from if layout.is_rated else None


def _write(
    layout: Layout,
    warehouse: DuckDbSession,
    folder: Path,
    liked_from: float | None,
    left_out: tuple[SkippedRows, SkippedRows],
) -> Imported:
    days = _write_days(warehouse.batches("imported_rows", rows=BATCH_ROWS), folder / "exports")
    if not days:
        raise left_out[0].nothing()
    if layout.catalogue:
        warehouse.copy_parquet("imported_videos", folder / "videos.parquet")
    written = [folder / "exports" / str(day) / FILE for day in days]
    warehouse.inputs.parquet("written", written, INTERACTIONS)
    done = Imported(
        layout=layout.name,
        kinds=dict(warehouse.rows("imported_kinds")),
        first=days[0],
        last=days[-1],
        days=len(days),
        liked_from=liked_from,
        left_out=left_out[0],
        catalogue_left_out=left_out[1],
        **warehouse.row("imported_totals"),
    )
    record = {"layout": done.layout, "files": [file.name for file in layout.files], "interactions": done.interactions}
    (folder / RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")
    return done


def _write_days(batches: Iterator[pa.RecordBatch], exports: Path) -> list[date]:
    """Write rows in order of time to a folder a day, each marked as complete, and return the days."""
    days: list[date] = []
    with ExitStack() as stack:
        writer = None
        for number, rows in _even(_by_day(batches)):
            day = EPOCH + timedelta(days=number)
            if writer is None or day != days[-1]:
                days.append(day)
                stack.close()
                folder = exports / str(day)
                folder.mkdir(parents=True)
                (folder / MARKER).touch()
                writer = stack.enter_context(pq.ParquetWriter(folder / FILE, SCHEMA, compression="zstd"))
            writer.write_table(rows)
    return days


def _by_day(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, Any]]:
    for batch in batches:
        days = batch.column("day").to_numpy()
        rows = pa.Table.from_batches([batch.select(SCHEMA.names)]).cast(SCHEMA)
        edges = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]
        for begin, end in pairwise(edges):
            if end > begin:
                yield int(days[begin]), rows.slice(begin, end - begin)


def _even(slices: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """Yield each day's rows in equal tables, so that files do not show how the rows came."""
    for day, group in groupby(slices, key=itemgetter(0)):
        rest = SCHEMA.empty_table()
        for _, rows in group:
            rest = pa.concat_tables([rest, rows])
            while len(rest) >= GROUP_ROWS:
                yield day, rest.slice(0, GROUP_ROWS).combine_chunks()
                rest = rest.slice(GROUP_ROWS)
        if len(rest):
            yield day, rest.combine_chunks()


def _replace(made: Path, output: Path) -> None:
    """Replace the files of an earlier import; the record first, as it names the import."""
    (made / RECORD).replace(output / RECORD)
    shutil.rmtree(output / "exports", ignore_errors=True)
    (made / "exports").replace(output / "exports")
    videos = made / "videos.parquet"
    if videos.exists():
        videos.replace(output / "videos.parquet")
    else:
        (output / "videos.parquet").unlink(missing_ok=True)
