"""The SQL side: statements from the files of `sql/`, run by DuckDB on a scratch database that may outgrow memory."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import duckdb
import numpy as np
from numpy.typing import NDArray

INTERRUPTED: Final = "Query interrupted"
"""What DuckDB raises, as a RuntimeError, in place of what the handler of a signal raised."""
STATEMENTS: Final = Path(__file__).with_name("sql")


class Warehouse:
    """A scratch database; left by KeyboardInterrupt when a signal was handled during a statement.

    Args:
        folder: Where its file and what does not fit into memory stand.
        memory: Most memory to use, such as `2GiB`.
        threads: Threads to use.
    """

    def __init__(self, folder: Path, *, memory: str, threads: int) -> None:
        self._connection = duckdb.connect(
            folder / "scratch.duckdb",
            config={
                "memory_limit": memory,
                "threads": threads,
                "temp_directory": str(folder / "spill"),
                "preserve_insertion_order": False,
                "autoinstall_known_extensions": False,
            },
        )
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute("PRAGMA disable_checkpoint_on_shutdown")  # nobody reads the file again

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        if isinstance(error, RuntimeError) and str(error) == INTERRUPTED:
            raise KeyboardInterrupt from None

    def define(self, **variables: object) -> None:
        """Set variables that views read by `getvariable`: views cannot have parameters."""
        for name, value in variables.items():
            self._connection.execute(f"SET VARIABLE {name} = $value", {"value": value})

    def run(self, *names: str, **parameters: object) -> None:
        """Run statements by file name, in order, each with the same parameters."""
        for name in names:
            self._connection.execute(statement(name), parameters or None)

    def view(self, name: str, query: str) -> None:
        """Name a query that was put together by this package."""
        self._connection.execute(f'CREATE VIEW "{name}" AS {query}')

    def function(self, name: str, function: Callable[[Any], Any], takes: str, gives: str) -> None:
        """Let statements call a function of one argument."""
        self._connection.create_function(name, function, [takes], gives)

    def rows(self, name: str, **parameters: object) -> list[tuple[Any, ...]]:
        """Return the rows of a small result."""
        return self._connection.execute(statement(name), parameters or None).fetchall()

    def row(self, name: str, **parameters: object) -> dict[str, Any]:
        """Return the only row of a result by column."""
        (row,) = self.dicts(name, **parameters)
        return row

    def dicts(self, name: str, **parameters: object) -> list[dict[str, Any]]:
        """Return the rows of a small result by column."""
        result = self._connection.execute(statement(name), parameters or None)
        names = [column[0] for column in result.description]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    def arrays(self, name: str, **parameters: object) -> dict[str, NDArray[Any]]:
        """Return a result's columns as arrays, without a Python object for each number."""
        return dict(self._connection.execute(statement(name), parameters or None).fetchnumpy())

    def batches(self, name: str, *, rows: int) -> Iterator[Any]:
        """Yield a result as Arrow record batches of so many rows, streamed, in its order."""
        # Not `execute`: what it returns is out of order here, as insertion order is not preserved (DuckDB 2.0).
        yield from self._connection.sql(statement(name)).to_arrow_reader(rows)

    def identifiers(self, name: str) -> "NDArray[np.bytes_]":
        """Return the first column of a result, identifiers in ascending order, as a fixed-width array of UTF-8."""
        rows: Sequence[tuple[str]] = self.rows(name)
        return np.array([row[0].encode() for row in rows], dtype=np.bytes_) if rows else np.empty(0, "S1")


@cache
def statement(name: str) -> str:
    """Return the text of a statement."""
    return (STATEMENTS / f"{name}.sql").read_text(encoding="utf-8")
