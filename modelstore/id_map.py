"""Maps identifiers to rows and back.

Identifiers stand sorted by their UTF-8 bytes in one fixed-width array; an identifier's row is its rank. So the map
needs no hash table to be built at load, is shared between processes through the page cache, and breaks ties the same
way everywhere: a lower row is a smaller identifier.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

UNKNOWN: Final = -1
"""The row of an identifier that the map does not hold."""


class IdMap:
    """Maps identifiers to rows 0..n-1 and back.

    Args:
        ids: (n,) bytes array, strictly ascending; may be memory-mapped.
    """

    __slots__ = ("array",)

    def __init__(self, ids: "NDArray[np.bytes_]") -> None:
        self.array = ids

    @classmethod
    def build(cls, ids: Iterable[str]) -> Self:
        """Return the map of these identifiers, sorted, without repeats; ValueError when one is empty or holds NUL."""
        encoded = sorted({one.encode() for one in ids})
        if any(not one or b"\0" in one for one in encoded):
            raise ValueError("identifiers must not be empty or contain NUL")
        return cls(np.array(encoded, dtype=np.bytes_) if encoded else np.empty(0, "S1"))

    def __len__(self) -> int:
        return len(self.array)

    def row(self, one: str) -> int:
        """Return the identifier's row, or -1."""
        key = one.encode()
        if not 0 < len(key) <= self.array.dtype.itemsize:
            return UNKNOWN
        # numpy's own search gives the interpreter's lock away, and with it the turn: ten times the cost under load.
        row = bisect_left(self.array, key)
        return row if row < len(self.array) and self.array[row] == key else UNKNOWN

    def rows(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the identifiers' rows, (len(ids),) int64, -1 for each that is unknown."""
        if not ids or not len(self):
            return np.full(len(ids), UNKNOWN, np.int64)
        return self.rows_of(np.array([one.encode() for one in ids]))

    def rows_of(self, keys: "NDArray[np.bytes_]") -> NDArray[np.int64]:
        """Return the rows of identifiers in UTF-8, (len(keys),) int64, -1 for each that is unknown."""
        if not len(self):
            return np.full(len(keys), UNKNOWN, np.int64)
        width = self.array.dtype.itemsize
        # A longer identifier cannot be in the map, and would make searchsorted copy the map to a wider type.
        fits = np.strings.str_len(keys) <= width if keys.dtype.itemsize > width else True
        keys = keys.astype(self.array.dtype, copy=False)
        rows = np.searchsorted(self.array, keys)
        rows[rows == len(self)] = 0
        found: Any = (self.array[rows] == keys) & fits
        return np.where(found, rows, UNKNOWN)

    def ids(self, rows: NDArray[np.integer[Any]]) -> list[str]:
        """Return the identifiers at these rows."""
        return [one.decode() for one in self.array[rows].tolist()]
