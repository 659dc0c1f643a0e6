"""Checks the input files of a run: files on this machine, each with the columns it must have."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import structlog

from retrain.data.columns import HISTORY, INTERACTIONS, VIDEOS
from retrain.data.duckdb_session import statement
from retrain.data.exports import Window, local_copies, local_copy
from retrain.data.file_links import FileLinks, file_name
from retrain.data.input_views import InputViews
from retrain.data.text_repair import mend
from retrain.errors import Reason, RunError
from servicekit.storage.object_store import ObjectNotFoundError, ObjectStore

CATALOGUE_FILE: Final = "videos.parquet"
HISTORY_FILE: Final = "history.parquet"

logger = structlog.get_logger("retrain")


@dataclass(frozen=True, kw_only=True, slots=True)
class InputFiles:
    """The files that a model is trained on."""

    exports: tuple[Path, ...]
    catalogue: Path | None
    history: Path | None
    erased: Path | None = None
    """Users who must not be trained on, see `erased_users`."""

    def check(self, folder: Path) -> None:
        """Raise RunError for the first file that has a wrong column; the folder is for scratch files."""
        with _reader(folder) as inputs:
            self.make_views(inputs)

    def make_views(self, inputs: InputViews) -> None:
        """Make the views `export_rows`, `video_rows` and `history_rows` of the files; RunError as `check`."""
        for view, paths, columns in self._parts():
            inputs.parquet(view, paths, columns)

    def mended(self, folder: Path) -> "InputFiles | None":
        """Return the files with unreadable ones replaced; None if all can be read.

        Args:
            folder: Where the replacements go.

        Raises:
            RunError: A file cannot be replaced, because it is damaged.
        """
        replaced: dict[Path, Path] = {}
        with _reader(folder) as inputs:  # apart from the database that failed, which may be past use
            for path, columns in [(path, columns) for _, paths, columns in self._parts() for path in paths]:
                if problem := inputs.problem(path, columns):
                    target = folder / f"mended-{len(replaced):06}.parquet"
                    replaced[path] = mended(path, columns, target, problem)
        if not replaced:
            return None
        return replace(
            self,
            exports=tuple(replaced.get(path, path) for path in self.exports),
            catalogue=self.catalogue and replaced.get(self.catalogue, self.catalogue),
            history=self.history and replaced.get(self.history, self.history),
        )

    @property
    def files(self) -> list[Path]:
        """Return all files in a fixed order."""
        return [path for _, paths, _ in self._parts() for path in paths] + ([self.erased] if self.erased else [])

    def _parts(self) -> Iterator[tuple[str, tuple[Path, ...], dict[str, str]]]:
        yield "export_rows", self.exports, INTERACTIONS
        if self.catalogue:
            yield "video_rows", (self.catalogue,), VIDEOS
        if self.history:
            yield "history_rows", (self.history,), HISTORY


@contextmanager
def _reader(folder: Path) -> Iterator[InputViews]:
    """Yield a reader that keeps nothing; the folder is for scratch files."""
    with FileLinks(folder) as links, duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(statement("numbers"))
        yield InputViews(connection, links)


def mended(path: Path, columns: Mapping[str, str], target: Path, problem: str) -> Path:
    """Return a readable copy of a file that DuckDB cannot read.

    Args:
        path: The file.
        columns: Those that are wanted.
        target: The one in its place.
        problem: What is wrong with it, for the log.

    Raises:
        RunError: It is damaged.
    """
    try:
        emptied = mend(path, columns, target)
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:  # of the disk: damage has no number
            raise
        told = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise RunError(Reason.SCHEMA, f"{file_name(path)} cannot be read: {told}") from None
    logger.warning("input.mended", file=file_name(path), not_utf8=emptied, problem=problem)
    return target


def fetch(window: Window, interactions: ObjectStore, catalogue: ObjectStore | None, folder: Path) -> InputFiles:
    """Copy the window's files, the catalogue and the history to this machine.

    Args:
        window: The days.
        interactions: The store of the days.
        catalogue: The store of the other files; None for none. A file that it lacks is done without.
        folder: Where downloads go.

    Raises:
        RunError: The other store is empty, so its address must be wrong.
    """
    if catalogue is not None and next(catalogue.list(""), None) is None:
        raise RunError(Reason.EXPORTS, f"CATALOGUE_URL: {catalogue.url} is empty, or not there")
    return InputFiles(
        exports=tuple(local_copies(interactions, window.keys, folder / "exports")),
        catalogue=_optional(catalogue, CATALOGUE_FILE, folder),
        history=_optional(catalogue, HISTORY_FILE, folder),
    )


def _optional(store: ObjectStore | None, key: str, folder: Path) -> Path | None:
    if store is None:
        return None
    try:
        path = local_copy(store, key, folder)
    except ObjectNotFoundError:
        return None
    return path if path.is_file() else None
