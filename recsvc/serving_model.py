"""A model ready to answer: its arrays, and what is computed from them once."""

from dataclasses import dataclass
from typing import Self

from recsvc.artefact import Manifest, Model
from recsvc.filters import FilterMasks
from recsvc.fingerprints import Fingerprints
from recsvc.ranking import ExactRanker, Ranker
from recsvc.viewers import Viewer, trained_viewer


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingModel:
    """Everything that one call reads; a call takes one of these and stays with it, whatever goes live meanwhile."""

    model: Model
    ranker: Ranker
    masks: FilterMasks
    fingerprints: Fingerprints

    @classmethod
    def of(cls, model: Model) -> Self:
        """Prepare a model for serving."""
        return cls(
            model=model,
            ranker=ExactRanker(model.video_factors, model.video_biases + model.prior()),
            masks=FilterMasks(model.catalogue),
            fingerprints=Fingerprints(model.videos),
        )

    @property
    def manifest(self) -> Manifest:
        """Return what the model is."""
        return self.model.manifest

    def viewer(self, user_id: str) -> Viewer:
        """Return how the model knows a viewer."""
        return trained_viewer(self.model, user_id)
