"""What pages of one feed have in common: what they must not show, and the token of the next one."""

import numpy as np
from numpy.typing import NDArray

from recsvc.filters import VideoFilter
from recsvc.page_token import PageToken
from recsvc.ranking import Barred
from recsvc.serving_model import ServingModel


def barred_rows(
    serving: ServingModel,
    served: NDArray[np.uint32],
    video_filter: VideoFilter | None,
    *further: NDArray[np.integer],
) -> Barred:
    """Return what must not be shown: what earlier pages held, what the filter drops, and further rows."""
    rows = (*further, serving.fingerprints.rows(served)) if len(served) else further
    mask = serving.masks.blocked(video_filter) if video_filter else None
    return Barred(rows, mask)


def next_token(serving: ServingModel, digest: bytes, served: NDArray[np.uint32], rows: NDArray[np.int64]) -> str:
    """Return the token of the page after one with these rows."""
    return PageToken(
        model_version=serving.manifest.version,
        digest=digest,
        served=np.concatenate((served, serving.fingerprints.of(rows))),
    ).encode()
