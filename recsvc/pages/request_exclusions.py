"""Defines which videos a request excludes."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsvc.pages.page_token import NOTHING
from recsvc.ranking.exact import Exclusions
from recsvc.ranking.video_fingerprints import Fingerprints

NO_ROWS: Final = np.empty(0, np.int64)


class RequestExclusions(NamedTuple):
    """Videos that a request excludes, besides those that its user has seen."""

    served: NDArray[np.uint32] = NOTHING
    """Fingerprints of the videos on earlier pages."""
    rows: NDArray[np.int64] = NO_ROWS
    """Rows of excluded videos, in any order and with repeats."""
    mask: NDArray[np.bool_] | None = None
    """(V,) True where a filter drops the video."""

    def barred(self, fingerprints: Fingerprints, *further: NDArray[np.integer]) -> Exclusions:
        """Return the exclusions as rows of one model, with further rows."""
        return Exclusions((*further, self.rows, fingerprints.rows(self.served)), self.mask)
