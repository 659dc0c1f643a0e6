"""Shortens video identifiers to fingerprints that mean the same in every model, for page tokens."""

import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelstore.id_map import IdMap

_NONE: Final = np.empty(0, np.int32)
_CHUNK: Final = 4096
"""Identifiers hashed at a stretch, so that a large catalogue need not stand in memory as objects."""


class Fingerprints:
    """CRC-32 of each video's identifier.

    Two videos may share one: then one of them is passed over on later pages, which nobody sees; none is ever repeated.

    Args:
        of_rows: (V,) the fingerprints; see `fingerprints_of`.
        order: (V,) the rows by their fingerprints.
    """

    def __init__(self, of_rows: NDArray[np.uint32], order: NDArray[np.int32]) -> None:
        self.of_rows = of_rows
        """(V,) the fingerprints."""
        self._order = order
        self._sorted = of_rows[order]

    def rows(self, fingerprints: NDArray[np.uint32]) -> NDArray[np.int32]:
        """Return all rows that have one of these fingerprints."""
        if not len(fingerprints):
            return _NONE
        low = np.searchsorted(self._sorted, fingerprints)
        counts = np.searchsorted(self._sorted, fingerprints, side="right") - low
        # Position j of list i is low[i] + j, flattened.
        starts = np.repeat(low - np.cumsum(counts) + counts, counts)
        return self._order[starts + np.arange(len(starts))]


def fingerprints_of(videos: IdMap) -> NDArray[np.uint32]:
    """Return the fingerprint of each video, (V,) uint32."""
    found = np.empty(len(videos), np.uint32)
    for start in range(0, len(videos), _CHUNK):
        ids: list[bytes] = videos.array[start : start + _CHUNK].tolist()
        found[start : start + len(ids)] = np.fromiter(map(zlib.crc32, ids), np.uint32, len(ids))
    return found
