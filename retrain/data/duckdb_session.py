"""Runs SQL statements from the files of `sql/` in DuckDB, on a scratch database that may outgrow memory."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import duckdb
import numpy as np
from numpy.typing import NDArray

from retrain.data.file_links import FileLinks
from retrain.data.input_views import InputViews
from retrain.errors import Reason, RunError

INTERRUPTED: Final = "Query interrupted"
"""What DuckDB raises, as a RuntimeError, in place of what the handler of a signal raised."""
STATEMENTS: Final = Path(__file__).with_name("sql")


class DuckDbSession:
    """A scratch database; its block ends with KeyboardInterrupt if a signal was handled during a statement.

    Args:
        folder: Where its file and what does not fit into memory stand.
        memory: Most memory to use, such as `2GiB`.
        threads: Threads to use.
        zone: Where times are from that do not say so.

    Attributes:
        folder: That of its files.
        inputs: Makes views of files: no statement names one.
    """

    def __init__(self, folder: Path, *, memory: str, threads: int, zone: str = "UTC") -> None:
        _check(folder)
        self.folder = folder
        self._links = FileLinks(folder)
        self._connection = duckdb.connect(
            self._links.scratch("scratch.duckdb"),
            config={
                "memory_limit": memory,
                "threads": threads,
                "temp_directory": self._links.scratch("spill"),
                "preserve_insertion_order": False,
                "autoinstall_known_extensions": False,
            },
        )
        self._connection.execute("SET TimeZone = $zone", {"zone": zone})
        self._connection.execute("PRAGMA disable_checkpoint_on_shutdown")  # nobody reads the file again
        self.inputs = InputViews(self._connection, self._links)
        self._attempt = 0
        self._functions: set[str] = set()
        self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._links.close()
        if isinstance(error, RuntimeError) and str(error) == INTERRUPTED:
            raise KeyboardInterrupt from None

    def begin_again(self) -> None:
        """Drop all views and tables."""
        self._attempt += 1
        self._begin()
        self._connection.execute(f"DROP SCHEMA attempt_{self._attempt - 1} CASCADE")

    def _begin(self) -> None:
        self._connection.execute(f"CREATE SCHEMA attempt_{self._attempt}")
        self._connection.execute(f"USE attempt_{self._attempt}")
        self.run("numbers")

    def define(self, **variables: object) -> None:
        """Set variables that views read by `getvariable`: views cannot have parameters."""
        for name, value in variables.items():
            self._connection.execute(f"SET VARIABLE {name} = $value", {"value": value})

    def run(self, *names: str, **parameters: object) -> None:
        """Run statements by file name, in order, each with the same parameters."""
        for name in names:
            self._connection.execute(statement(name), parameters or None)

    def view(self, name: str, query: str) -> None:
        """Name a query that this package has built."""
        self._connection.execute(f'CREATE VIEW "{name}" AS {query}')

    def function(self, name: str, function: Callable[[Any], Any], takes: str, gives: str) -> None:
        """Let statements call a function of one argument."""
        if name not in self._functions:
            self._functions.add(name)
            self._connection.create_function(name, function, [takes], gives)

    def rows(self, name: str, **parameters: object) -> list[tuple[Any, ...]]:
        """Return the rows of a small result."""
        return self._connection.execute(statement(name), parameters or None).fetchall()

    def row(self, name: str, **parameters: object) -> dict[str, Any]:
        """Return the only row of a result as a dict."""
        (row,) = self.dicts(name, **parameters)
        return row

    def dicts(self, name: str, **parameters: object) -> list[dict[str, Any]]:
        """Return the rows of a small result as dicts."""
        result = self._connection.execute(statement(name), parameters or None)
        names = [column[0] for column in result.description]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    def arrays(self, name: str, **parameters: object) -> dict[str, NDArray[Any]]:
        """Return a result's columns as arrays, without a Python object for each number."""
        return dict(self._connection.execute(statement(name), parameters or None).fetchnumpy())

    def copy(self, name: str, path: Path, **parameters: object) -> None:
        """Write a result to a file of CSV without a header."""
        self._write(name, path, "FORMAT csv, HEADER false", parameters)

    def copy_parquet(self, name: str, path: Path, **parameters: object) -> None:
        """Write a result to a file of parquet."""
        self._write(name, path, "FORMAT parquet, COMPRESSION zstd", parameters)

    def _write(self, name: str, path: Path, options: str, parameters: dict[str, object]) -> None:
        # Not by a link: DuckDB writes beside the name and replaces what stands there.
        written = "written"
        query = f"COPY ({statement(name)}) TO '{self._links.scratch(written)}' ({options})"
        self._connection.execute(query, parameters or None)
        (self.folder / written).replace(path)

    def batches(self, name: str, *, rows: int) -> Iterator[Any]:
        """Yield a result as Arrow record batches of so many rows, streamed, in its order."""
        # Not `execute`: what it returns is out of order here, as insertion order is not preserved (DuckDB 2.0).
        yield from self._connection.sql(statement(name)).to_arrow_reader(rows)

    def identifiers(self, name: str) -> "NDArray[np.bytes_]":
        """Return the first column of a result, identifiers in ascending order, as a fixed-width array of UTF-8."""
        rows: Sequence[tuple[str]] = self.rows(name)
        return np.array([row[0].encode() for row in rows], dtype=np.bytes_) if rows else np.empty(0, "S1")


def _check(folder: Path) -> None:
    odd = next((character for character in "?\\" if character in str(folder.resolve())), None)
    if odd:  # DuckDB follows links to its own file, and takes these for more than a name
        raise RunError(Reason.STORE, f"{folder}: {odd!r} cannot be in the path of scratch files")


@cache
def statement(name: str) -> str:
    """Return the text of a statement."""
    return (STATEMENTS / f"{name}.sql").read_text(encoding="utf-8")
