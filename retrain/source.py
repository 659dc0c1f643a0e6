"""The input of a run: files on this machine, each with the columns it must have."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from retrain.exports import Window, local_copies, local_copy
from retrain.failure import Reason, RunFailure
from retrain.schema import HISTORY, INTERACTIONS, VIDEOS, check_columns, find_unreadable
from servicekit.objectstore import ObjectNotFoundError, ObjectStore

CATALOGUE_FILE: Final = "videos.parquet"
HISTORY_FILE: Final = "history.parquet"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The files that a model is trained on."""

    exports: tuple[Path, ...]
    catalogue: Path | None
    history: Path | None
    erased: Path | None = None
    """Viewers who must not be trained on, see `erasures`."""

    def check(self) -> None:
        """Raise RunFailure for the first file that has a wrong column."""
        for path, columns in self._parts():
            check_columns(path, columns)

    def blame(self) -> None:
        """Raise RunFailure for the first file that cannot be read to its end; nothing happens when all can."""
        for path, columns in self._parts():
            problem = find_unreadable([path], columns)
            if problem:
                raise problem

    @property
    def files(self) -> list[Path]:
        """All files, in a fixed order."""
        return [path for path, _ in self._parts()] + ([self.erased] if self.erased else [])

    def _parts(self) -> Iterator[tuple[Path, dict[str, str]]]:
        for path in self.exports:
            yield path, INTERACTIONS
        if self.catalogue:
            yield self.catalogue, VIDEOS
        if self.history:
            yield self.history, HISTORY


def fetch(window: Window, interactions: ObjectStore, catalogue: ObjectStore | None, folder: Path) -> Source:
    """Bring the window's files, the catalogue and the history to this machine.

    Args:
        window: The days.
        interactions: The store of the days.
        catalogue: The store of the other files; None for none. A file that it lacks is done without.
        folder: Where downloads go.

    Raises:
        RunFailure: The other store is empty, so its address must be wrong.
    """
    if catalogue is not None and next(catalogue.list(""), None) is None:
        raise RunFailure(Reason.EXPORTS, f"CATALOGUE_URL: {catalogue.url} is empty, or not there")
    return Source(
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
