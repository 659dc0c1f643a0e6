"""`python -m recsvc.precompute <model folder> <users>`: compute the shortlists of a model's trained users.

A process of its own, so that the work can have the lowest priority without holding up a thread that serves: threads of
one interpreter wait for each other.
"""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelstore.artefact import ArtefactError, Model, read
from recsvc.domain.user import user_at
from recsvc.precompute.shortlists import FOLDER, LENGTH, PLACES, ROWS, SCORES, published
from recsvc.ranking.exact import Exclusions, RankingQuery
from servicekit.files.lock import FOR_EVER, FileLock

TOGETHER: Final = 64
LOWEST_PRIORITY: Final = 19
_PARTIAL: Final = f".{FOLDER}"
_LOCK: Final = f".{FOLDER}.lock"


def main() -> None:
    """Precompute the shortlists, unless another process of this machine has; end early when nobody waits for them."""
    os.nice(LOWEST_PRIORITY)
    folder, most, parent = Path(sys.argv[1]), int(sys.argv[2]), os.getppid()
    try:
        with FileLock(folder / _LOCK, patience_s=FOR_EVER):
            if not (folder / FOLDER).exists():
                precompute(read(folder, checked=True), folder, most=most, wanted=lambda: os.getppid() == parent)
    except (ArtefactError, OSError) as error:  # the model is gone, or the disk is full
        sys.exit(f"error: shortlists were not precomputed: {error}")


def precompute(model: Model, folder: Path, *, most: int, wanted: Callable[[], bool] = lambda: True) -> None:
    """Write the lists; their folder appears complete or not at all.

    Args:
        model: The model.
        folder: Where its files stand.
        most: Users to precompute for; those who were shown most come first.
        wanted: Asked now and then whether to go on.
    """
    partial = folder / _PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    users = _chosen(model, most)
    places = np.full(len(model.users), -1, np.int32)
    places[users] = np.arange(len(users))
    np.save(partial / PLACES, places)
    if _rank(model, users, partial, wanted):
        partial.rename(folder / FOLDER)


def _chosen(model: Model, most: int) -> NDArray[np.int64]:
    """Return the rows of users with a known taste, and with enough unseen videos to fill a list."""
    shown = model.seen.lengths()
    users = np.flatnonzero(model.user_factors.any(axis=1) & (shown <= len(model.videos) - LENGTH))
    if len(users) > most:
        users = users[np.argpartition(-shown[users], most)[:most]]
    sorted_rows: NDArray[np.int64] = np.sort(users)
    return sorted_rows


def _rank(model: Model, users: NDArray[np.int64], folder: Path, wanted: Callable[[], bool]) -> bool:
    ranker = published(model)
    all_rows = np.empty((len(users), LENGTH), np.int32)
    all_scores = np.empty((len(users), LENGTH), np.float32)
    for start in range(0, len(users), TOGETHER):
        if not wanted():
            return False
        known = [user_at(model, row) for row in users[start : start + TOGETHER].tolist()]
        for place, ranked in enumerate(
            ranker.top_many([RankingQuery(one, LENGTH, Exclusions((one.seen,))) for one in known])
        ):
            all_rows[start + place], all_scores[start + place] = ranked.rows, ranked.scores
    np.save(folder / ROWS, all_rows)
    np.save(folder / SCORES, all_scores)
    return True


if __name__ == "__main__":
    main()
