"""Checks that pages can be ranked by a model's numbers, for readers and writers of models."""

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from modelstore.artefact import Model

_LARGEST: Final = float(np.finfo(np.float32).max) / 4


def numbers_problem(model: "Model") -> str:
    """Return the fault of a model's numbers, or an empty text."""
    if not model.manifest.dimensions:
        return "the model has no dimensions"
    if model.popularity.min(initial=0) < 0:
        return "popularity.npy holds negative numbers"
    factors = (model.user_factors, model.video_factors)
    parts = (model.user_biases, model.video_biases, model.popularity, _prior(model))
    # By Cauchy-Schwarz, no product of a user and a video is above the product of their largest norms.
    norms = [_largest_norm(one) for one in factors]
    bound = norms[0] * norms[1] + sum(float(np.abs(part).max(initial=0)) for part in parts)
    # Of each alone as well: lengths of videos are squared, and users who are folded in are sums of videos.
    if not (bound < _LARGEST and all(norm * norm < _LARGEST for norm in norms)):  # neither holds for nan
        return "scores of the model overflow"
    return ""


def _prior(model: "Model") -> NDArray[np.float32]:
    with np.errstate(all="ignore"):  # what comes of odd weights is looked at
        return model.prior()


def _largest_norm(factors: NDArray[np.float32]) -> float:
    squares = np.einsum("ij,ij->i", factors, factors, dtype=np.float64)
    return float(np.sqrt(squares.max(initial=0)))
