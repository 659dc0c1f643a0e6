"""What users did within an hour, as sums by video."""

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from modelstore.id_map import UNKNOWN, IdMap


class HourlyCounts:
    """Sums of one hour.

    They are kept as two arrays, a fifth of the memory of a dictionary; what was added last is merged when it is asked
    for.
    """

    def __init__(self) -> None:
        self._added: defaultdict[bytes, float] = defaultdict(float)
        self._names: NDArray[np.bytes_] = np.empty(0, "S1")
        self._sums: NDArray[np.float64] = np.empty(0)
        self._rows: tuple[IdMap, NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        """Return the number of videos, some maybe twice."""
        return len(self._names) + len(self._added)

    def add(self, video_id: str, worth: float) -> None:
        """Add to a video's sum."""
        self._added[video_id.encode()] += worth

    def of(self, videos: IdMap) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the rows of the videos that are known, and their sums."""
        self._merge()
        if self._rows is None or self._rows[0] is not videos:
            self._rows = (videos, videos.rows_of(self._names))
        rows = self._rows[1]
        known = rows != UNKNOWN
        return rows[known], self._sums[known]

    def _merge(self) -> None:
        if not self._added:
            return
        names = np.concatenate((self._names, np.array(list(self._added))))
        sums = np.concatenate((self._sums, np.fromiter(self._added.values(), np.float64, len(self._added))))
        self._names, places = np.unique(names, return_inverse=True)
        self._sums = np.asarray(np.bincount(places, sums), np.float64)
        self._added.clear()
        self._rows = None
