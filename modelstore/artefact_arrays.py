"""Reads the arrays of an artefact, and checks type, shape and, unless that was done before, content."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelstore.array_file import ArrayFileError, map_file
from modelstore.artefact_error import ArtefactError
from modelstore.identifier_array import identifiers_problem
from modelstore.row_lists import RowLists


def map_array(path: Path) -> "NDArray[Any]":
    """Return a plain view of a mapped array file; ArtefactError when the file is no array."""
    try:
        return map_file(path)
    except FileNotFoundError:
        raise ArtefactError("missing", f"{path.name} is missing") from None
    except ArrayFileError as error:
        raise ArtefactError("content", f"{path.name} {error}") from None


class Arrays:
    """Reads the arrays of one folder.

    Args:
        folder: Of the files.
        names: Of the files that the manifest tells of.
        checked: Their contents were checked before, so that types and shapes are enough.
    """

    def __init__(self, folder: Path, names: Collection[str], *, checked: bool) -> None:
        self._folder = folder
        self._names = names
        self._checked = checked

    def ids(self, name: str, count: int | None = None) -> "NDArray[np.bytes_]":
        """Return identifiers; their number is checked if it is given."""
        array: NDArray[np.bytes_] = self._load(name, "S", None if count is None else (count,))
        self._require(array.ndim == 1, name, f"has shape {array.shape}")
        if not self._checked and (problem := identifiers_problem(array)):
            self._require(condition=False, name=name, problem=problem)
        return array

    def floats(self, name: str, *shape: int) -> NDArray[np.float32]:
        """Return finite numbers."""
        array: NDArray[np.float32] = self._load(name, "f4", shape)
        self._inspect(lambda: np.isfinite(array).all(), name, "holds numbers that are not finite")
        return array

    def integers(self, name: str, count: int) -> NDArray[np.int64]:
        """Return an array of integers."""
        array: NDArray[np.int64] = self._load(name, "i8", (count,))
        return array

    def rows(self, name: str, bound: int, *, count: int | None = None) -> NDArray[np.int32]:
        """Return rows below a bound; -1 means no row where their number is given."""
        array: NDArray[np.int32] = self._load(name, "i4", None if count is None else (count,))
        self._require(array.ndim == 1, name, f"has shape {array.shape}")
        low = 0 if count is None else -1
        self._inspect(
            lambda: not len(array) or (array.min() >= low and array.max() < bound), name, "holds rows out of range"
        )
        return array

    def row_lists(self, name: str, count: int, bound: int) -> RowLists:
        """Return lists of rows below a bound."""
        offsets: NDArray[np.int64] = self._load(f"{name}_offsets", "i8", (count + 1,))
        rows = self.rows(f"{name}_rows", bound)
        self._require(offsets[0] == 0 and offsets[-1] == len(rows), f"{name}_offsets", "does not fit its rows")
        self._inspect(lambda: np.all(offsets[1:] >= offsets[:-1]), f"{name}_offsets", "is not ascending")
        return RowLists(offsets, rows)

    def _load(self, name: str, kind: str, shape: tuple[int, ...] | None) -> Any:
        file = f"{name}.npy"
        if file not in self._names:
            raise ArtefactError("missing", f"{file} is not in the manifest")
        array = map_array(self._folder / file)
        self._require(array.dtype.kind == kind or array.dtype == np.dtype(kind), name, f"is of type {array.dtype}")
        self._require(shape is None or array.shape == shape, name, f"has shape {array.shape} instead of {shape}")
        return array

    def _inspect(self, is_sound: Callable[[], Any], name: str, problem: str) -> None:
        """Raise ArtefactError unless a check of every element holds."""
        if not self._checked:
            self._require(bool(is_sound()), name, problem)

    @staticmethod
    def _require(condition: bool, name: str, problem: str) -> None:  # noqa: FBT001  # reads as an assertion
        if not condition:
            raise ArtefactError("content", f"{name}.npy {problem}")
