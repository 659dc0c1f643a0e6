"""What a model must show before it may answer: sane numbers, and sound pages for canary viewers."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsvc.artefact import ArtefactError, Model
from recsvc.ranking import Barred, ExactRanker
from recsvc.serving_model import ServingModel
from recsvc.viewers import COLD, Viewer

CANARIES: Final = 8
"""Trained viewers, spread over the rows, whose pages are computed before a model goes live."""
CANARY_PAGE: Final = 20
LEAST_FOUND: Final = 0.5
"""Least share of the best videos in a canary's page where an index proposes candidates: it misses one now and then."""
_CLOSE: Final = 1e-4
_LARGEST: Final = float(np.finfo(np.float32).max) / 4


def admit(model: Model) -> ServingModel:
    """Return the model ready to answer and warm; ArtefactError when it must not be served."""
    _check_numbers(model)
    serving = ServingModel.of(model)
    for viewer in (COLD, *_canaries(serving)):
        check_page(serving, viewer)
    return serving


def _check_numbers(model: Model) -> None:
    if not len(model.videos):
        raise ArtefactError("empty", "the model has no videos")
    if model.popularity.min() < 0:
        raise ArtefactError("content", "popularity.npy holds negative numbers")
    # By Cauchy-Schwarz, no product of a viewer and a video is above the product of their largest norms.
    bound = _largest_norm(model.user_factors) * _largest_norm(model.video_factors)
    parts = (model.user_biases, model.video_biases, model.prior())
    bound += sum(float(np.abs(part).max(initial=0)) for part in parts)
    if not bound < _LARGEST:
        raise ArtefactError("content", "scores of the model overflow")


def _largest_norm(factors: "np.ndarray[tuple[int, int], np.dtype[np.float32]]") -> float:
    squares = np.einsum("ij,ij->i", factors, factors, dtype=np.float64)
    return float(np.sqrt(squares.max(initial=0)))


def _canaries(serving: ServingModel) -> list[Viewer]:
    users = serving.model.users
    rows = np.unique(np.linspace(0, len(users) - 1, CANARIES, dtype=np.int64)) if len(users) else np.empty(0, np.int64)
    return [serving.viewer(user_id) for user_id in users.ids(rows)]


def check_page(serving: ServingModel, viewer: Viewer) -> None:
    """Compare a viewer's page with the best scores in plain order; ArtefactError, `canary`, when it is another one.

    The scan also brings the arrays into memory.
    """
    page = serving.ranker.top(viewer, CANARY_PAGE, Barred())
    scores = serving.ranker.scores(viewer) + np.float32(viewer.bias)
    best = np.sort(scores)[::-1][:CANARY_PAGE]
    if (
        page.scores.shape != best.shape
        or len(np.unique(page.rows)) != len(page.rows)
        or not np.allclose(page.scores, scores[page.rows], rtol=_CLOSE, atol=_CLOSE)
        or not _holds_best(page.scores, best, least=1.0 if isinstance(serving.ranker, ExactRanker) else LEAST_FOUND)
    ):
        raise ArtefactError("canary", "a canary viewer's page does not hold the best scores")


def _holds_best(found: NDArray[np.float32], best: NDArray[np.float32], *, least: float) -> bool:
    """Return whether a page is in order and holds at least this share of the best scores."""
    in_order = bool((found[1:] <= found[:-1]).all())
    return in_order and bool((found >= best[-1] - _CLOSE * (1 + abs(best[-1]))).mean() >= least)
