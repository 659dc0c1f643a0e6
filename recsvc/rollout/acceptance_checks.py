"""Checks a model before it may answer: sane numbers, and sound pages for canary users."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from modelstore.artefact import ArtefactError, Model, check_numbers, read
from recsvc.domain.user import COLD, User
from recsvc.model.serving_model import ServingModel
from recsvc.ranking.exact import ExactRanker, Exclusions

CANARIES: Final = 8
"""Trained users, spread over the rows, whose pages are computed before a model goes live."""
CANARY_PAGE: Final = 20
MIN_FOUND: Final = 0.5
"""Least share of the best videos in a canary's page where an index proposes candidates: it misses one now and then."""
_CLOSE: Final = 1e-4

logger = structlog.get_logger(__name__)


def check_folder(folder: Path) -> ServingModel:
    """Return the model of a local copy ready to answer; ArtefactError when it must not be served."""
    return check_model(replace(read(folder), folder=folder))


def check_model(model: Model) -> ServingModel:
    """Return the model ready to answer and warm; ArtefactError when it must not be served."""
    check_numbers(model)
    try:
        serving = ServingModel.of(model)
        for user in (COLD, *_canaries(serving)):
            check_page(serving, user)
    except (ArithmeticError, IndexError, TypeError, ValueError) as error:
        # Of no check above, so it is to be found out why; trying again would end no other way.
        logger.exception("model.defect", version=model.manifest.version)
        raise ArtefactError("defect", f"no page can be made of it: {type(error).__name__}") from error
    return serving


def _canaries(serving: ServingModel) -> list[User]:
    users = serving.model.users
    rows = np.unique(np.linspace(0, len(users) - 1, CANARIES, dtype=np.int64)) if len(users) else np.empty(0, np.int64)
    return [serving.user(user_id) for user_id in users.ids(rows)]


def check_page(serving: ServingModel, user: User) -> None:
    """Compare a user's page with the best scores in plain order; ArtefactError, `canary`, if they differ.

    The scan also brings the arrays into memory.
    """
    page = serving.ranker.top(user, CANARY_PAGE, Exclusions())
    scores = serving.ranker.scores(user) + np.float32(user.bias)
    best = np.sort(scores)[::-1][:CANARY_PAGE]
    if (
        page.scores.shape != best.shape
        or len(np.unique(page.rows)) != len(page.rows)
        or not np.allclose(page.scores, scores[page.rows], rtol=_CLOSE, atol=_CLOSE)
        or not _holds_best(page.scores, best, least=1.0 if isinstance(serving.ranker, ExactRanker) else MIN_FOUND)
    ):
        raise ArtefactError("canary", "a canary user's page does not hold the best scores")


def _holds_best(found: NDArray[np.float32], best: NDArray[np.float32], *, least: float) -> bool:
    """Return whether a page is in order and holds at least this share of the best scores."""
    in_order = bool((found[1:] <= found[:-1]).all())
    return in_order and bool((found >= best[-1] - _CLOSE * (1 + abs(best[-1]))).mean() >= least)
