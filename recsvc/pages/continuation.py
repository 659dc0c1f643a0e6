"""What pages of one feed have in common: what they must not show, and the token of the next one."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsvc.model.serving_model import ServingModel
from recsvc.pages import page_token
from recsvc.ranking.exact import Exclusions
from recsvc.ranking.video_fingerprints import Fingerprints

NO_ROWS: Final = np.empty(0, np.int64)


class RequestExclusions(NamedTuple):
    """What a request rules out, besides what its user has seen."""

    served: NDArray[np.uint32] = page_token.NOTHING
    """Fingerprints of what earlier pages held."""
    rows: NDArray[np.int64] = NO_ROWS
    """Rows of excluded videos, in any order and with repeats."""
    mask: NDArray[np.bool_] | None = None
    """(V,) True where a filter drops the video."""

    def barred(self, fingerprints: Fingerprints, *further: NDArray[np.integer]) -> Exclusions:
        """Return it in terms of one model, with further rows."""
        return Exclusions((*further, self.rows, fingerprints.rows(self.served)), self.mask)


def next_token(serving: ServingModel, digest: bytes, served: NDArray[np.uint32], rows: NDArray[np.integer]) -> str:
    """Return the token of the page after one with these rows."""
    return page_token.encode(serving.manifest.version, digest, served, serving.fingerprints.of(rows))
