"""Sums of the interactions of one hour, by video."""

from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from modelstore.id_map import UNKNOWN, IdMap
from recsvc.live_state.profile import DamagedError

MAX_SUM: Final = 1e12
"""What the interactions of an hour can say for a video."""


class HourlyCounts(NamedTuple):
    """The sums of one hour, for the videos that a model knows."""

    version: int
    """How often the hour's counts had changed."""
    rows: NDArray[np.int32]
    sums: NDArray[np.float32]

    @classmethod
    def of(cls, version: int, names: list[bytes], sums: list[float], videos: IdMap) -> Self:
        """Return the sums of a model's videos; DamagedError where a sum can be none.

        Args:
            version: How often the hour's counts had changed.
            names: The videos.
            sums: What the interactions with each say for it.
            videos: Those of the model.
        """
        if not names:
            return cls(version, np.empty(0, np.int32), np.empty(0, np.float32))
        found = np.array(sums, np.float64)
        if not ((found >= 0) & (found <= MAX_SUM)).all():
            raise DamagedError("a sum of interactions is none")
        rows = videos.rows_of(np.array(names))
        known = rows != UNKNOWN
        return cls(version, rows[known].astype(np.int32), found[known].astype(np.float32))
