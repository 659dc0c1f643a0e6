"""Names files to DuckDB, here only: as views whose columns have declared types.

A statement reads a view; it never names a file. See `file_links` for why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb

from retrain.data.columns import ColumnError, read_columns
from retrain.data.file_links import FileLinks, file_name
from retrain.errors import Reason, RunError

_FOOTER: Final = "SELECT name, duckdb_type, coalesce(num_children, 0) FROM parquet_schema('{}') ORDER BY column_id"
_ROWS: Final = "SELECT num_rows FROM parquet_file_metadata('{}')"


@dataclass(frozen=True, kw_only=True, slots=True)
class CsvFiles:
    """Files of text with the same columns, all of which are read as text."""

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    """Of the columns, in order."""
    delimiter: str = ","
    quote: str = '"'
    """Empty for none."""
    header: bool = True
    encoding: str = "utf-8"
    compressed: bool = False
    """By gzip."""
    needed: tuple[str, ...] = ()
    """Columns that are read."""

    @property
    def others(self) -> list[str]:
        """Return the columns that are not read."""
        return [name for name in self.names if name not in self.needed]


@dataclass(frozen=True, kw_only=True, slots=True)
class ParquetFile:
    """A parquet file, with the SQL expressions that read its columns."""

    path: Path
    columns: Mapping[str, str]
    """Name and kind of each, see `schema`."""


class InputViews:
    """Views of files in a database.

    Args:
        connection: The database.
        links: The files that it reads.
    """

    def __init__(self, connection: Any, links: FileLinks) -> None:
        self._connection = connection
        self._links = links

    def parquet(self, view: str, paths: Sequence[Path], columns: Mapping[str, str], *, lenient: bool = False) -> None:
        """Make a view of the columns of files, each file read by its own schema.

        Args:
            view: Its name.
            paths: The files.
            columns: Name and kind of each column, see `schema`.
            lenient: Read a missing column as null, but for the first one.

        Raises:
            RunError: A file is none of parquet, or a column of it cannot be read.
        """
        alike: dict[tuple[object, ...], list[Path]] = {}
        for path in paths:
            found = self._columns(path)
            try:
                expressions = read_columns(found, columns, lenient=lenient)
            except ColumnError as error:
                rows = self._count(path)
                raise RunError(Reason.SCHEMA, f"{file_name(path)}: {error} ({rows:,} rows)") from None
            # DuckDB finds the columns of further files by their names, whatever their case.
            is_plain = len({name.lower() for name, _ in found}) == len(found)
            alike.setdefault((*found, *expressions, None if is_plain else path), []).append(path)
        parts = [self._part(key, group, columns) for key, group in alike.items()]
        self._connection.execute(f'CREATE VIEW "{view}" AS {" UNION ALL ".join(parts)}')

    def csv(self, view: str, files: CsvFiles) -> None:
        """Make a view of files of text; unreadable lines go to the table `<view>_rejects`."""
        columns = ", ".join(f"{_text(name)}: 'VARCHAR'" for name in files.names)
        quote = _text(files.quote)
        options = ", ".join(
            (
                "auto_detect = false",
                "store_rejects = true",
                f"rejects_table = '{view}_rejects'",
                f"rejects_scan = '{view}_scans'",
                f"header = {str(files.header).lower()}",
                f"delim = {_text(files.delimiter)}",
                f"quote = {quote}",
                f"escape = {quote}",
                f"encoding = '{files.encoding}'",
                f"compression = '{'gzip' if files.compressed else 'none'}'",
            )
        )
        links = self._links.sql(files.paths)
        self._connection.execute(
            f'CREATE VIEW "{view}" AS SELECT * FROM read_csv({links}, columns = {{{columns}}}, {options})'
        )

    def rows(self, view: str, needed: Sequence[str]) -> int:
        """Return the rows of a view of text in which these columns can be read."""
        # Columns that are not asked for are not looked at: they may be anything but UTF-8.
        counted = ", ".join(["count(*)", *(f"count({_name(name)})" for name in needed)])
        ((rows, *_),) = self._connection.execute(f'SELECT {counted} FROM "{view}"').fetchall()
        return int(rows)

    def lines_within(self, view: str, columns: Sequence[str]) -> int:
        """Return the number of line ends within some columns of a view of text."""
        ends = " + ".join(
            f"coalesce(length({_name(name)}) - length(replace({_name(name)}, chr(10), '')), 0)" for name in columns
        )
        ((lines,),) = self._connection.execute(f'SELECT coalesce(sum({ends}), 0) FROM "{view}"').fetchall()
        return int(lines)

    def first_reject(self, view: str) -> tuple[int, str, str] | None:
        """Return number, kind of error and beginning of the first unreadable line of a view of text."""
        query = f'SELECT line, error_type::VARCHAR, csv_line[:60] FROM "{view}_rejects" ORDER BY file_id, line LIMIT 1'
        found = self._connection.execute(query).fetchone()
        return (int(found[0]), str(found[1]), str(found[2]).partition("\n")[0]) if found else None

    def problem(self, path: Path, columns: Mapping[str, str], *, lenient: bool = False) -> str | None:
        """Read all of a file's columns and return DuckDB's complaint, None if it has none."""
        self.parquet("probed", [path], columns, lenient=lenient)
        try:
            self._connection.execute("SELECT bit_xor(hash(COLUMNS(*))) FROM probed").fetchall()
        except duckdb.Error as error:
            return self.told(error)
        finally:
            self._connection.execute("DROP VIEW probed")
        return None

    def told(self, error: Exception) -> str:
        """Return the message of an error of DuckDB, with the names of the files."""
        return self._links.told(error)

    def _columns(self, path: Path) -> list[tuple[str, str]]:
        """Return name and type of each column of a parquet file, as DuckDB reads them."""
        try:
            rows = self._connection.execute(_FOOTER.format(self._links.add(path))).fetchall()
        except duckdb.Error as error:
            raise RunError(
                Reason.SCHEMA, f"{file_name(path)} is not a parquet file: {self._links.told(error)}"
            ) from None
        columns, inner = [], 0
        for name, kind, children in rows[1:]:
            if inner:
                inner += children - 1
            else:
                columns.append((name, kind))
                inner = children
        return columns

    def _count(self, path: Path) -> int:
        (rows,) = self._connection.execute(_ROWS.format(self._links.add(path))).fetchone()
        return int(rows)

    def _part(self, key: tuple[object, ...], paths: Sequence[Path], columns: Mapping[str, str]) -> str:
        count = (len(key) - 1) - len(columns)
        listed = ", ".join(
            f"{expression} AS {_name(name)}" for expression, name in zip(key[count:-1], columns, strict=True)
        )
        aliases = ", ".join(f"c{number}" for number in range(count))
        links = self._links.sql(paths)
        options = "hive_partitioning = false, union_by_name = false, filename = false"
        return f"SELECT {listed} FROM read_parquet({links}, {options}) AS file ({aliases})"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
