"""Opens the files of an import as views, and accounts for every line that made no row."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from retrain.data.duckdb_session import DuckDbSession
from retrain.data.input_files import mended
from retrain.data.input_views import CsvFiles, ParquetFile
from retrain.errors import Reason, RunError
from retrain.importers.csv_lines import LineCounts, copy_alike, count_lines
from retrain.importers.layouts import Layout

logger = structlog.get_logger("retrain")

_PROBLEMS: Final = {
    "UNQUOTED VALUE": "a quoted value that does not end, or not before a delimiter",
    "MISSING COLUMNS": "too few columns",
    "TOO MANY COLUMNS": "too many columns",
    "INVALID ENCODING": "not UTF-8",
    "LINE SIZE OVER MAXIMUM": "too long",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class LostLines:
    """Lines of a view's files that made no row."""

    filled: int
    """Lines besides headers and blank ones."""
    lost: int
    within: int
    """Lines that lie within quoted values of columns that are not read."""
    first: str | None
    """Where they begin and why; None where the reader does not say."""


def make_views(layout: Layout, warehouse: DuckDbSession) -> dict[str, LostLines]:
    """Make the views of a layout's files and return the lost lines of each text view.

    Raises:
        RunError: A file cannot be read.
    """
    folder = warehouse.folder
    lost: dict[str, LostLines] = {}
    for view, files in layout.inputs.items():
        if isinstance(files, ParquetFile):
            problem = warehouse.inputs.problem(files.path, files.columns)
            path = mended(files.path, files.columns, folder / f"{view}.mended", problem) if problem else files.path
            warehouse.inputs.parquet(view, [path], files.columns)
        else:
            counted = [_counted(path, files) for path in files.paths]
            warehouse.inputs.csv(view, _alike(files, counted, folder / view))
            lost[view] = _lost(view, files, counted, warehouse)
    return lost


def _counted(path: Path, files: CsvFiles) -> LineCounts:
    try:
        return count_lines(path, compressed=files.compressed)
    except EOFError:
        raise RunError(Reason.SCHEMA, f"{path.name} cannot be read: it ends in the middle") from None


def _alike(files: CsvFiles, counted: list[LineCounts], target: Path) -> CsvFiles:
    """Return the files as the database's reader accepts them: with line ends of one kind."""
    if not any(lines.is_mixed for lines in counted):
        return files
    copies = []
    for number, path in enumerate(files.paths):
        copies.append(target.with_suffix(f".{number}"))
        copy_alike(path, copies[-1], compressed=files.compressed)
    names = [path.name for path, lines in zip(files.paths, counted, strict=True) if lines.is_mixed]
    logger.warning("import.line_ends_mixed", files=names)
    return replace(files, paths=tuple(copies), compressed=False)


def _lost(view: str, files: CsvFiles, counted: list[LineCounts], warehouse: DuckDbSession) -> LostLines:
    filled = sum(lines.filled - files.header for lines in counted)
    rows = warehouse.inputs.rows(view, files.needed)
    found = warehouse.inputs.first_reject(view)
    has_quotes = files.quote and any(lines.has_quotes for lines in counted)
    within = warehouse.inputs.lines_within(view, files.others) if has_quotes and files.others else 0
    first = None
    if found:
        line, kind, text = found
        first = f"from line {line:,} on: {_PROBLEMS.get(kind, kind.lower())}: {text}"
    return LostLines(filled=filled, lost=max(0, filled - rows - within), within=within, first=first)
