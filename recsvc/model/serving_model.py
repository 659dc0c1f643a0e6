"""Defines a model ready to answer: its arrays, and the arrays derived from them."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from modelstore.artefact import Manifest, Model
from recsvc.domain.user import User, trained_user
from recsvc.model.derived_arrays import DerivedArrays
from recsvc.model.fold_in import FoldIn
from recsvc.ranking.approximate import kept_index, ranker_of
from recsvc.ranking.exact import ExactRanker, Ranker
from recsvc.ranking.filters import FilterMasks
from recsvc.ranking.neighbours import Neighbours
from recsvc.ranking.video_fingerprints import Fingerprints


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingModel:
    """Everything that one call reads; a call takes one serving model and keeps it, whatever goes live meanwhile."""

    model: Model
    manifest: Manifest
    """What the model is."""
    ranker: Ranker
    masks: FilterMasks
    fingerprints: Fingerprints
    fold_in: FoldIn
    neighbours: Neighbours
    heads: NDArray[np.bytes_]
    """(V,) the first bytes of each video's entry in a reply; see `wire_format`."""
    prior: NDArray[np.float32]
    """(V,) the popularity part of the scores, of the model's popularity or a fresher one."""

    @classmethod
    def of(cls, model: Model) -> Self:
        """Prepare a model for serving, with the files kept beside its local copy if it has one."""
        prior, derived = model.prior(), DerivedArrays.of(model)
        longest = float(derived.lengths.max(initial=0))
        exact = ExactRanker(model.video_factors, model.video_biases + prior, longest=longest)
        kept = kept_index(model.folder, model.manifest) if model.folder else None
        return cls(
            model=model,
            manifest=model.manifest,
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

    def user(self, user_id: str) -> User:
        """Return the user as the model knows one."""
        return trained_user(self.model, user_id)
