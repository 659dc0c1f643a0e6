"""Decides whether to load the model of a pointer."""

import math
import time
from typing import Final

from modelstore.artefact import ArtefactError
from modelstore.registry import Pointer
from recsvc.rollout.check_in_subprocess import UNPREPARED

RETRY_S: Final = 60.0
"""Seconds until a model that could not be prepared is tried again."""


class LoadPolicy:
    """Remembers which pointer is served, and which one was refused.

    A model that was refused is not tried again before the pointer moves, but for one that could not be prepared, which
    may be this machine's fault.
    """

    def __init__(self) -> None:
        self._serving: Pointer | None = None
        self._refused: Pointer | None = None
        self._refused_until = 0.0

    def wants(self, pointer: Pointer, *, again: bool) -> bool:
        """Return whether to load a pointer's model: it is not the served one, and not known to be bad.

        Args:
            pointer: The store's.
            again: Tries also a model that was refused before.
        """
        if self._serving is not None and self._serving.manifest_sha256 == pointer.manifest_sha256:
            return False
        return again or pointer != self._refused or time.monotonic() >= self._refused_until

    def loaded(self, pointer: Pointer) -> Pointer | None:
        """Record that a pointer's model went live; return the pointer of the one before."""
        before, self._serving = self._serving, pointer
        return before

    def refused(self, pointer: Pointer, error: ArtefactError) -> None:
        """Record that a pointer's model must not be served."""
        self._refused = pointer
        self._refused_until = time.monotonic() + RETRY_S if error.reason == UNPREPARED else math.inf
