"""How a model knows a viewer."""

from collections.abc import Collection
from enum import IntEnum, auto
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsvc.artefact import Model
from recsvc.idmap import UNKNOWN
from recsvc.interactions import Interaction


class ViewerState(IntEnum):  # whose members are hashed without a call into Python
    """Where a viewer's representation comes from."""

    TRAINED = auto()
    """From training."""
    FOLDED_IN = auto()
    """Computed from recent interactions."""
    COLD = auto()
    """There is none: popularity ranks."""


class Viewer(NamedTuple):
    """What ranking needs to know of a viewer."""

    state: ViewerState
    vector: NDArray[np.float32] | None
    """(d,); None where nothing is known."""
    bias: float
    seen: NDArray[np.int32]
    """Rows of videos that the viewer was shown."""
    interactions: Collection[Interaction] = ()
    """What the viewer did since training, oldest first."""
    row: int = UNKNOWN
    """Of a viewer who is as the model was trained."""


COLD: Final = Viewer(state=ViewerState.COLD, vector=None, bias=0.0, seen=np.empty(0, np.int32))


def trained_viewer(model: Model, user_id: str) -> Viewer:
    """Return the viewer as trained, or a cold one when the model does not know the viewer.

    A viewer of whom the training data held nothing but what was shown has factors of zero: cold, with videos seen.
    """
    row = model.users.row(user_id)
    return COLD if row == UNKNOWN else viewer_at(model, row)


def viewer_at(model: Model, row: int) -> Viewer:
    """Return the viewer of a row of the model; see `trained_viewer`."""
    vector = model.user_factors[row]
    is_trained = bool(vector[0]) or np.count_nonzero(vector) > 0
    state, known = (ViewerState.TRAINED, vector) if is_trained else (ViewerState.COLD, None)
    return Viewer(state, known, float(model.user_biases[row]), model.seen[row], (), row)
