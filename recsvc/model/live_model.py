"""Holds the model that answers now."""

import threading

from recsvc.model.serving_model import ServingModel
from servicekit.grpc.errors import unavailable


class LiveModel:
    """Holds one reference, so that readers need no lock and a swap is one assignment.

    Args:
        retry_after_s: What callers are told while there is no model.
    """

    def __init__(self, *, retry_after_s: float) -> None:
        self._retry_after_s = retry_after_s
        self._serving: ServingModel | None = None
        self._writing = threading.Lock()

    def get(self) -> ServingModel:
        """Return the live model; UNAVAILABLE, NO_MODEL, before the first."""
        serving = self._serving
        if serving is None:
            raise unavailable("NO_MODEL", "no model is live yet", retry_after_s=self._retry_after_s)
        return serving

    def peek(self) -> ServingModel | None:
        """Return the live model, None before the first."""
        return self._serving

    def cut_off_ms(self) -> int | None:
        """Return the first instant that the live model's data do not cover, milliseconds since 1970 UTC."""
        serving = self._serving
        return None if serving is None else round(serving.manifest.data_until.timestamp() * 1000)

    def swap(self, serving: ServingModel) -> None:
        """Make a model live; running calls keep the one they took."""
        with self._writing:
            self._serving = serving

    def exchange(self, expected: ServingModel, serving: ServingModel) -> bool:
        """Make a model live in place of another one; return False, without effect, when that one is not live."""
        with self._writing:
            if self._serving is not expected:
                return False
            self._serving = serving
            return True
