"""The model that answers now."""

from recsvc.serving_model import ServingModel
from servicekit.errors import unavailable


class LiveModel:
    """Holds one reference, so that readers need no lock and a swap is one assignment.

    Args:
        retry_after_s: What callers are told while there is no model.
    """

    def __init__(self, *, retry_after_s: float) -> None:
        self._retry_after_s = retry_after_s
        self._serving: ServingModel | None = None

    def get(self) -> ServingModel:
        """Return the live model; UNAVAILABLE, NO_MODEL, before the first."""
        serving = self._serving
        if serving is None:
            raise unavailable("NO_MODEL", "no model is live yet", retry_after_s=self._retry_after_s)
        return serving

    def peek(self) -> ServingModel | None:
        """Return the live model, None before the first."""
        return self._serving

    def swap(self, serving: ServingModel) -> None:
        """Make a model live; calls that run keep the one they took."""
        self._serving = serving
