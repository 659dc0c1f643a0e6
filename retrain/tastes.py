"""What is served of what LightFM has learnt: viewers drawn towards what they liked last, and smaller biases.

A vector of a viewer is learnt from few interactions, one step at a time, and is as noisy. The mean of the factors of
what the viewer liked last is not, and it is of now: half of each ranks better than either. A bias of a video says how
popular it was over all of the data; as the prior says how popular it is now, only a part of the bias is of use.
"""

from dataclasses import replace
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from retrain.preparation import Positives
from retrain.representations import Representations

SAMPLE: Final = 20_000
"""Viewers, at most, that tell how far scores are spread."""
BLOCK: Final = 1 << 16
"""Viewers whose vectors are made at once."""


def served(learnt: Representations, tastes: Positives, *, recent_share: float, bias_share: float) -> Representations:
    """Return what ranks best.

    Args:
        learnt: LightFM's.
        tastes: What viewers liked last, weighed by what it says of now; they keep their vectors where it has nothing.
        recent_share: Share of a viewer's vector that comes from it, 0..1.
        bias_share: Share of the videos' biases that is kept, 0..1.
    """
    means = _Means(tastes, learnt.video_factors, len(learnt.user_factors))
    vectors = learnt.user_factors.copy()
    known = np.flatnonzero(np.concatenate([_both(means.of(block), vectors[block]) for block in _blocks(len(vectors))]))
    if recent_share and len(known):
        some = known[np.linspace(0, len(known) - 1, min(SAMPLE, len(known)), dtype=np.int64)]
        scale = np.float32(_spread_ratio(vectors[some], means.of(some), learnt.video_factors))
        for block in _blocks(len(known)):
            rows = known[block]
            vectors[rows] *= np.float32(1 - recent_share)
            vectors[rows] += np.float32(recent_share) * scale * means.of(rows)
    return replace(learnt, user_factors=vectors, video_biases=np.float32(bias_share) * learnt.video_biases)


class _Means:
    """The weighted mean of the factors of what each viewer liked, zeros where that is nothing.

    There may be millions of viewers: the means are made for a block of them at a time.
    """

    def __init__(self, tastes: Positives, factors: NDArray[np.float32], users: int) -> None:
        rows, sums = tastes.pairs.users, np.bincount(tastes.pairs.users, tastes.weights, minlength=users)
        shares = (tastes.weights / sums[rows]).astype(np.float32)
        self._matrix = sp.csr_matrix((shares, (rows, tastes.pairs.videos)), (users, len(factors)))
        self._factors = factors

    def of(self, users: "slice | NDArray[np.integer]") -> NDArray[np.float32]:
        """Return the means of some viewers, (n, d)."""
        means: NDArray[np.float32] = self._matrix[users] @ self._factors
        return means


def _blocks(count: int) -> list[slice]:
    return [slice(begin, begin + BLOCK) for begin in range(0, max(count, 1), BLOCK)]


def _both(means: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return of which viewers something is known in either way."""
    return np.logical_and(means.any(axis=1), vectors.any(axis=1))


def _spread_ratio(vectors: NDArray[np.float32], means: NDArray[np.float32], factors: NDArray[np.float32]) -> float:
    """Return how much wider vectors spread the scores of videos than means do; 1 where neither does."""
    trained = factors[factors.any(axis=1)]
    covariance = np.cov(trained, rowvar=False, bias=True).reshape(trained.shape[1], -1)
    wide, narrow = (float(np.einsum("ij,jk,ik->", one, covariance, one, optimize=True)) for one in (vectors, means))
    return float(np.sqrt(wide / narrow)) if wide > 0 and narrow > 0 else 1.0
