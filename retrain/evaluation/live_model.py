"""Maps the live model to the terms of a run: its scores for the run's users and videos."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from modelstore.artefact import ArtefactError, Manifest, Model, read
from modelstore.id_map import UNKNOWN, IdMap
from modelstore.registry import Registry
from retrain.embeddings import Embeddings

logger = structlog.get_logger("retrain")


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveModel:
    """The live model, which a candidate must match."""

    model: Model
    users: IdMap
    """The run's U users."""
    video_factors: NDArray[np.float32]
    """(V, d) of the run's videos."""
    video_biases: NDArray[np.float32]
    """(V,)."""

    @classmethod
    def of(cls, model: Model, users: IdMap, videos: IdMap) -> "LiveModel":
        """Return a model in the rows of these users and videos."""
        rows = _rows(model.videos, videos.array)
        return cls(
            model=model,
            users=users,
            video_factors=_taken(model.video_factors, rows),
            video_biases=_taken(model.video_biases, rows, -np.inf),
        )

    @property
    def manifest(self) -> Manifest:
        """Return the model's manifest."""
        return self.model.manifest

    def representations_of(self, users: NDArray[np.integer]) -> Embeddings:
        """Return the representations of some users, given by their rows, ascending, and of all of the run's videos.

        A user whom the model does not know has zeros, as a stranger is ranked for; a video that it does not know has
        a bias of minus infinity, as it is on no page.
        """
        rows = _rows(self.model.users, self.users.array[users])
        return Embeddings(
            user_factors=_taken(self.model.user_factors, rows),
            user_biases=_taken(self.model.user_biases, rows),
            video_factors=self.video_factors,
            video_biases=self.video_biases,
            users=users,
        )

    def knows(self, instant: datetime) -> bool:
        """Return whether the model was trained on data after an instant."""
        return self.manifest.data_until > instant


def load_live_model(registry: Registry, folder: Path, users: IdMap, videos: IdMap) -> LiveModel | None:
    """Return the live model, None if no servable one exists.

    Args:
        registry: Knows the live model.
        folder: Where its files go.
        users: The run's users.
        videos: The run's videos.
    """
    try:
        current = registry.current()
        if current is None:
            return None
        return LiveModel.of(read(registry.fetch(current[0], folder)), users, videos)
    except ArtefactError as error:
        logger.warning("gate.live_model_unusable", problem=str(error))
        return None


def _rows(known: IdMap, wanted: "NDArray[np.bytes_]") -> NDArray[np.int64]:
    """Return the row of each wanted identifier among the known ones, UNKNOWN if it is missing."""
    if not len(known):
        return np.full(len(wanted), UNKNOWN, np.int64)
    places = np.minimum(np.searchsorted(known.array, wanted), len(known) - 1)
    return np.where(known.array[places] == wanted, places, UNKNOWN)


def _taken(values: NDArray[np.float32], rows: NDArray[np.int64], rest: float = 0.0) -> NDArray[np.float32]:
    taken = np.full((len(rows), *values.shape[1:]), rest, np.float32)
    known = rows != UNKNOWN
    taken[known] = values[rows[known]]
    return taken
