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


def served(learnt: Representations, tastes: Positives, *, recent_share: float, bias_share: float) -> Representations:
    """Return what ranks best.

    Args:
        learnt: LightFM's.
        tastes: What viewers liked last, weighed by what it says of now; they keep their vectors where it has nothing.
        recent_share: Share of a viewer's vector that comes from it, 0..1.
        bias_share: Share of the videos' biases that is kept, 0..1.
    """
    means = _means(tastes, learnt.video_factors, len(learnt.user_factors))
    known = means.any(axis=1) & learnt.user_factors.any(axis=1)
    vectors = learnt.user_factors.copy()
    if recent_share and known.any():
        scale = _spread_ratio(vectors[known], means[known], learnt.video_factors)
        vectors[known] = (1 - recent_share) * vectors[known] + recent_share * scale * means[known]
    return replace(
        learnt,
        user_factors=vectors.astype(np.float32, copy=False),
        video_biases=(np.float32(bias_share) * learnt.video_biases).astype(np.float32, copy=False),
    )


def _means(tastes: Positives, factors: NDArray[np.float32], users: int) -> NDArray[np.float32]:
    """Return the weighted mean of the factors of what each viewer liked, (U, d), zeros where there is nothing."""
    rows, sums = tastes.pairs.users, np.bincount(tastes.pairs.users, tastes.weights, minlength=users)
    shares = (tastes.weights / sums[rows]).astype(np.float32)
    matrix = sp.csr_matrix((shares, (rows, tastes.pairs.videos)), (users, len(factors)))
    means: NDArray[np.float32] = matrix @ factors
    return means


def _spread_ratio(vectors: NDArray[np.float32], means: NDArray[np.float32], factors: NDArray[np.float32]) -> float:
    """Return how much wider vectors spread the scores of videos than means do; 1 where neither does."""
    trained = factors[factors.any(axis=1)]
    covariance = np.cov(trained, rowvar=False, bias=True).reshape(trained.shape[1], -1)
    some = np.linspace(0, len(vectors) - 1, min(SAMPLE, len(vectors)), dtype=np.int64)
    wide, narrow = (
        float(np.einsum("ij,jk,ik->", one[some], covariance, one[some], optimize=True)) for one in (vectors, means)
    )
    return float(np.sqrt(wide / narrow)) if wide > 0 and narrow > 0 else 1.0
