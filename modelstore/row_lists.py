"""Stores many lists of row numbers in two arrays: all lists end to end, and their offsets (compressed sparse rows)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RowLists:
    """Lists of rows: list i is `rows[offsets[i]:offsets[i + 1]]`."""

    offsets: NDArray[np.int64]
    """(n + 1,), ascending from 0."""
    rows: NDArray[np.int32]
    """(offsets[n],)."""

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        """Return the list of one row, a view."""
        return self.rows[self.offsets[row] : self.offsets[row + 1]]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def lengths(self) -> NDArray[np.int64]:
        """Return the lists' lengths, (n,)."""
        return np.diff(self.offsets)
