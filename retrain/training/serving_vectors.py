"""Derives the vectors to serve from those of LightFM: users drawn towards their last likes, and smaller biases.

A vector of a user is learnt from few interactions, one step at a time, and is as noisy. The mean of the factors of
what the user liked last is not, and it is of now: half of each ranks better than either. A bias of a video says how
popular it was over all of the data; as the prior says how popular it is now, only a part of the bias is of use.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from retrain.data.prepare import Positives
from retrain.embeddings import Embeddings

BLOCK: Final = 1 << 16
"""Users whose vectors are made at once: there may be millions."""


def served(
    learnt: Embeddings, tastes: Positives, *, scale: float, recent_share: float, bias_share: float
) -> Embeddings:
    """Return the vectors that rank best.

    Args:
        learnt: LightFM's.
        tastes: What users liked last, weighed by what it says of now; they keep their vectors where it has nothing.
        scale: Of the means of what they liked; see `spread_ratio`.
        recent_share: Share of a user's vector that comes from it, 0..1.
        bias_share: Share of the videos' biases that is kept, 0..1.
    """
    vectors = learnt.user_factors.copy()
    for rows, means in _means(learnt, tastes):
        vectors[rows] *= np.float32(1 - recent_share)
        vectors[rows] += np.float32(recent_share * scale) * means
    return replace(learnt, user_factors=vectors, video_biases=np.float32(bias_share) * learnt.video_biases)


def spread_ratio(learnt: Embeddings, tastes: Positives) -> float:
    """Return how much wider vectors spread scores than means of liked videos; 1 if neither spreads any."""
    trained = learnt.video_factors[learnt.video_factors.any(axis=1)]
    covariance = np.cov(trained, rowvar=False, bias=True).reshape(trained.shape[1], -1)
    wide = narrow = 0.0
    for rows, means in _means(learnt, tastes):
        wide += _spread(learnt.user_factors[rows], covariance)
        narrow += _spread(means, covariance)
    return float(np.sqrt(wide / narrow)) if wide > 0 and narrow > 0 else 1.0


def _means(learnt: Embeddings, tastes: Positives) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Yield rows of users that have both a vector and likes, with the weighted means of the liked videos."""
    count = len(learnt.user_factors)
    users = learnt.places(tastes.pairs.users)
    shares = (tastes.weights / np.bincount(users, tastes.weights, minlength=count)[users]).astype(np.float32)
    matrix = sp.csr_matrix((shares, (users, tastes.pairs.videos)), (count, len(learnt.video_factors)))
    for begin in range(0, count, BLOCK):
        means = matrix[begin : begin + BLOCK] @ learnt.video_factors
        known = np.flatnonzero(means.any(axis=1) & learnt.user_factors[begin : begin + BLOCK].any(axis=1))
        if len(known):
            yield begin + known, means[known]


def _spread(vectors: NDArray[np.float32], covariance: NDArray[np.float64]) -> float:
    return float(np.einsum("ij,jk,ik->", vectors, covariance, vectors, optimize=True))
