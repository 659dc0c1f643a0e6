"""Writes and reads shortlists of trained users in files that all processes of a machine share.

They hold the ranking of the model as it was published. When fresher popularity has moved the videos' static scores, a
list still bounds what can come first: the list, the videos that rose most, and no other video beyond the list's last
score plus the largest rise of the rest. So an answer from here is the ranking's own answer, or there is none.
"""

from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from modelstore.artefact import ArtefactError, Model, map_array
from modelstore.id_map import UNKNOWN
from recsvc.domain.user import User
from recsvc.model.serving_model import ServingModel
from recsvc.ranking.exact import ExactRanker, Ranked

FORMAT: Final = 1
"""Of the files and of the way in which they are made: raise it when either changes, also by another ranking."""
FOLDER: Final = f"shortlists-{FORMAT}"
"""Folder of the lists within that of the model's local copy: nobody reads lists of another format."""
PLACES: Final = "places.npy"
ROWS: Final = "rows.npy"
SCORES: Final = "scores.npy"
LENGTH: Final = 64
"""Videos of a list: three pages."""
RISERS: Final = 32


class _Rise(NamedTuple):
    """The effect of fresher popularity on the static scores."""

    rows: NDArray[np.int64]
    """The videos that rose most, ascending."""
    rest: np.float32
    """The largest rise of the others."""


class Precomputed:
    """The precomputed lists of one model.

    Args:
        model: The model.
        places: (U,) int32, each trained user's place among the lists; -1 for those who have none.
        rows: (n, LENGTH) int32, videos that the user has not seen, best first.
        scores: (n, LENGTH) float32, theirs.
    """

    def __init__(
        self, model: Model, places: NDArray[np.int32], rows: NDArray[np.int32], scores: NDArray[np.float32]
    ) -> None:
        self.model = model
        self._places = places
        self._rows = rows
        self._scores = scores
        self._static = published(model).static
        self._rise: tuple[ExactRanker | None, _Rise | None] = (None, None)

    @classmethod
    def read(cls, folder: Path, model: Model) -> Self | None:
        """Return the lists in a folder, memory-mapped; None if they are missing or do not fit the model."""
        try:
            places, rows, scores = (map_array(folder / name) for name in (PLACES, ROWS, SCORES))
        except (OSError, ArtefactError):
            return None
        fits = (
            [one.dtype for one in (places, rows, scores)] == [np.int32, np.int32, np.float32]
            and places.shape == (len(model.users),)
            and places.min(initial=UNKNOWN) >= UNKNOWN
            and rows.shape == scores.shape == (places.max(initial=UNKNOWN) + 1, LENGTH)
            and rows.min(initial=0) >= 0
            and rows.max(initial=0) < len(model.videos)
        )
        return cls(model, places, rows, scores) if fits else None

    def of(self, serving: ServingModel, user: User) -> Ranked | None:
        """Return the head of a user's ranking without seen videos; None if nothing is known of it.

        Args:
            serving: This model, maybe with fresher popularity.
            user: Known by it.
        """
        ranker = serving.ranker
        if user.row == UNKNOWN or not isinstance(ranker, ExactRanker):
            return None
        place = self._places[user.row]
        if place == UNKNOWN:
            return None
        ranked = Ranked(self._rows[place].astype(np.int64), self._scores[place])
        rise = self._rise[1] if self._rise[0] is ranker else self._learn_rise(ranker)
        return ranked if rise is None else _risen(user, ranked, ranker, rise)

    def _learn_rise(self, ranker: ExactRanker) -> _Rise | None:
        rises = ranker.static - self._static
        rise = _rise_of(rises) if rises.any() else None
        self._rise = (ranker, rise)
        return rise


def published(model: Model) -> ExactRanker:
    """Return the ranking of a model as published."""
    return ExactRanker(model.video_factors, model.video_biases + model.prior())


def _rise_of(rises: NDArray[np.float32]) -> _Rise:
    most = min(RISERS, len(rises) - 1)
    order = np.argpartition(-rises, most)
    return _Rise(np.sort(order[:most]), rises[order[most]])


def _risen(user: User, before: Ranked, ranker: ExactRanker, rise: _Rise) -> Ranked:
    """Return the part of the ranking that the bound guarantees."""
    places = np.searchsorted(user.seen, rise.rows)
    places[places == len(user.seen)] = 0
    unseen = rise.rows[user.seen[places] != rise.rows] if len(user.seen) else rise.rows
    candidates = np.unique(np.concatenate((before.rows, unseen)))
    ranked = ranker.best_of(user, candidates, len(candidates))
    bound = before.scores[-1] + rise.rest + np.float32(ranker.slack(user))
    return ranked.head(int(np.count_nonzero(ranked.scores > bound)))
