"""A model ready to answer: its arrays, and what is computed from them once."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recsvc.artefact import Manifest, Model
from recsvc.derived import Derived
from recsvc.filters import FilterMasks
from recsvc.fingerprints import Fingerprints
from recsvc.fold_in import FoldIn
from recsvc.index import kept_index, ranker_of
from recsvc.neighbours import Neighbours
from recsvc.ranking import ExactRanker, Ranker
from recsvc.viewers import Viewer, trained_viewer


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingModel:
    """Everything that one call reads; a call takes one of these and stays with it, whatever goes live meanwhile."""

    model: Model
    ranker: Ranker
    masks: FilterMasks
    fingerprints: Fingerprints
    fold_in: FoldIn
    neighbours: Neighbours
    heads: NDArray[np.bytes_]
    """(V,) the first bytes of each video's entry in a reply; see `wire`."""
    prior: NDArray[np.float32]
    """(V,) the popularity part of the scores, of the model's popularity or a fresher one."""

    @classmethod
    def of(cls, model: Model) -> Self:
        """Prepare a model for serving, with what is kept beside its local copy if it has one."""
        prior, derived = model.prior(), Derived.of(model)
        longest = float(derived.lengths.max(initial=0))
        exact = ExactRanker(model.video_factors, model.video_biases + prior, longest=longest)
        kept = kept_index(model.folder, model.manifest) if model.folder else None
        return cls(
            model=model,
            ranker=ranker_of(exact, model.user_factors, kept),
            masks=FilterMasks(model.catalogue),
            fingerprints=Fingerprints(derived.fingerprints, derived.by_fingerprint),
            fold_in=FoldIn(model, float(derived.fold_in_scale)),
            neighbours=Neighbours(model.video_factors, derived.lengths),
            heads=derived.heads,
            prior=prior,
        )

    def with_popularity(self, popularity: NDArray[np.float32]) -> Self:
        """Return the same model with a fresher popularity, (V,) time-decayed weighted counts.

        Everything else is shared with this one.
        """
        prior = replace(self.model, popularity=popularity).prior()
        return replace(self, ranker=self.ranker.with_static(self.model.video_biases + prior), prior=prior)

    @property
    def manifest(self) -> Manifest:
        """Return what the model is."""
        return self.model.manifest

    def viewer(self, user_id: str) -> Viewer:
        """Return how the model knows a viewer."""
        return trained_viewer(self.model, user_id)
